"""The two sweeps of `one_pass` over a chunk of logits: sums, then gradients.

A chunk is (vocabulary, rows), the order in which the projection is fastest. Q = readout points^T
with ``readout`` (vocabulary, m) and ``points`` (rows, m). `TorchSweeps` and `CompiledSweeps`
compute the same quantities. The compiled ones read the chunk once for each sweep and store nothing
else of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.compiled.layout import VECTOR_ROWS

ROWS_CHOSEN_FOR = 4 * VECTOR_ROWS
"""Rows for which `likeliest` writes H at a time."""


@dataclass(frozen=True)
class Mixture:
    """How H is made of C and Q."""

    weights: Float[Tensor, "2"]
    """Weights of C and Q if logits are mixed, else the logarithms of the weights of p_C and p_Q."""
    of_logits: bool
    """True: H = weights[0] C + weights[1] Q. False: probabilities are mixed; no sweep uses H."""


@runtime_checkable
class Sweeps(Protocol):
    """The two sweeps over one chunk."""

    def normalisers(self, ablated: Float[Tensor, " vocabulary"]) -> Float[Tensor, "4 rows"]:
        """Log-sum-exp over the words of C, Q, H, and H with ``ablated`` in place of weights[1] Q.

        The last two are undefined unless logits are mixed.
        """
        ...

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        factors: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """The part of the gradients that comes from all words' probabilities.

        The gradient by C, factors[0] p_C + factors[2] p_H, replaces the chunk. That by Q is
        factors[1] p_Q + factors[3] p_H; from it follow the gradient by the readout, which is added
        to `by_readout`, and that by the points, which is returned. The second result is the sums
        over words of p_H C and p_H Q, undefined unless logits are mixed.
        """
        ...


def sweeps_over(classical: Tensor, readout: Tensor, points: Tensor, mixture: Mixture) -> Sweeps:
    """Compiled for float32 on the CPU, otherwise in plain torch."""
    if classical.device.type == "cpu" and classical.dtype == torch.float32:
        # Importing Numba takes half a second.
        from quantum_hybrid.training.head_pass.compiled_sweeps import CompiledSweeps

        return CompiledSweeps(classical, readout, points, mixture)
    return TorchSweeps(classical, readout, points, mixture)


def likeliest(
    classical: Float[Tensor, "vocabulary rows"],
    readout: Float[Tensor, "vocabulary m"],
    points: Float[Tensor, "rows m"],
    mixture: Mixture,
    normalisers: Float[Tensor, "4 rows"],
    count: int,
) -> Int[Tensor, "rows count"]:
    """The ``count`` words that H makes most likely, most likely first, for each row of a chunk.

    The chunk must still hold C. H is stored for 64 rows at a time: (vocabulary, 64) numbers, two
    such arrays if probabilities are mixed. At 50,257 words and 256 rows this took 0.2 s on one
    core, half of it in ``topk``.
    """
    found = []
    for start in range(0, classical.shape[1], ROWS_CHOSEN_FOR):
        rows = slice(start, start + ROWS_CHOSEN_FOR)
        hybrid = readout @ points[rows].T
        if mixture.of_logits:
            hybrid.mul_(mixture.weights[1]).addcmul_(classical[:, rows], mixture.weights[0])
        else:
            log_p = classical[:, rows] + (mixture.weights[0] - normalisers[0, rows])
            hybrid.add_(mixture.weights[1] - normalisers[1, rows])
            torch.logaddexp(hybrid, log_p, out=hybrid)
        found.append(hybrid.topk(count, 0).indices.T)
    return torch.cat(found)


class TorchSweeps:
    """Any device, any dtype; keeps a few tensors of the chunk's size."""

    def __init__(
        self,
        classical: Float[Tensor, "vocabulary rows"],
        readout: Float[Tensor, "vocabulary m"],
        points: Float[Tensor, "rows m"],
        mixture: Mixture,
    ) -> None:
        self._classical, self._readout, self._points = classical, readout, points
        self._mixture = mixture
        self._quantum = readout @ points.T

    def normalisers(self, ablated: Float[Tensor, " vocabulary"]) -> Float[Tensor, "4 rows"]:
        """See `Sweeps`."""
        found = [self._classical.logsumexp(0), self._quantum.logsumexp(0)]
        if not self._mixture.of_logits:
            return F.pad(torch.stack(found), (0, 0, 0, 2))
        part = self._mixture.weights[0] * self._classical
        found.append((part + self._mixture.weights[1] * self._quantum).logsumexp(0))
        return torch.stack([*found, part.add_(ablated[:, None]).logsumexp(0)])

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        factors: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """See `Sweeps`."""
        classical, quantum, weights = self._classical, self._quantum, self._mixture.weights
        by_quantum = (quantum - normalisers[1]).exp_().mul_(factors[1])
        if self._mixture.of_logits:
            p = (weights[0] * classical + weights[1] * quantum).sub_(normalisers[2]).exp_()
            moments = torch.stack([(p * classical).sum(0), (p * quantum).sum(0)])
            classical.sub_(normalisers[0]).exp_().mul_(factors[0]).addcmul_(p, factors[2])
            by_quantum.addcmul_(p, factors[3])
        else:
            moments = torch.zeros_like(factors[:2])
            classical.sub_(normalisers[0]).exp_().mul_(factors[0])
        by_readout.addmm_(by_quantum, self._points)
        return by_quantum.T @ self._readout, moments
