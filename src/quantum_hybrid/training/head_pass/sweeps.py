"""What `one_pass` does to a chunk of logits, word by word: compiled, or in plain torch.

A chunk is (vocabulary, rows), since that is how the projection is quickest. ``readout``
(vocabulary, m) times ``points`` (rows, m) is Q. `TorchSweeps` and `CompiledSweeps` give the same
numbers; the latter reads the chunk once to sum and once to differentiate, and stores nothing else
as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.compiled.vectors import LANES

ROWS_CHOSEN_FOR = 4 * LANES
"""Of so many rows at a time the most likely words are looked for."""


@dataclass(frozen=True)
class Mixture:
    """How H comes of C and Q."""

    weights: Float[Tensor, "2"]
    """What C and Q are multiplied by if logits are mixed; else logarithms of their shares."""
    of_logits: bool
    """H = weights[0] C + weights[1] Q; if false, probabilities are mixed, and no sweep needs H."""


@runtime_checkable
class Sweeps(Protocol):
    """The two sweeps over one chunk."""

    def normalisers(self, ablated: Float[Tensor, " vocabulary"]) -> Float[Tensor, "4 rows"]:
        """Logarithm of the sum of exponentials of C, Q, H, and H with ``ablated`` for weighted Q.

        The last two mean nothing unless logits are mixed.
        """
        ...

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        shares: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """The gradient that all words' probabilities bring; the chunk becomes the one by C.

        By C it is shares[0] p_C + shares[2] p_H, by Q shares[1] p_Q + shares[3] p_H. That by the
        readout gets added to `by_readout`. Returns that by the points, and the sums over words of
        p_H C and p_H Q, which mean nothing unless logits are mixed.
        """
        ...


def sweeps_over(classical: Tensor, readout: Tensor, points: Tensor, mixture: Mixture) -> Sweeps:
    """The compiled ones where they can: float32 on the CPU."""
    if classical.device.type == "cpu" and classical.dtype == torch.float32:
        # Numba takes its time to import.
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
    """The words that H makes most likely, most likely first, of a chunk before its gradient.

    H is written down for a few rows at a time: (vocabulary, 64) numbers, twice as many where
    probabilities are mixed. At 50,257 words and 256 rows that took 0.2 s on one core, of which
    half is for the choice itself.
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
    """On any device, in any dtype; keeps a few tensors as large as the chunk."""

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
        shares: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """See `Sweeps`."""
        classical, quantum, weights = self._classical, self._quantum, self._mixture.weights
        by_quantum = (quantum - normalisers[1]).exp_().mul_(shares[1])
        if self._mixture.of_logits:
            p = (weights[0] * classical + weights[1] * quantum).sub_(normalisers[2]).exp_()
            moments = torch.stack([(p * classical).sum(0), (p * quantum).sum(0)])
            classical.sub_(normalisers[0]).exp_().mul_(shares[0]).addcmul_(p, shares[2])
            by_quantum.addcmul_(p, shares[3])
        else:
            moments = torch.zeros_like(shares[:2])
            classical.sub_(normalisers[0]).exp_().mul_(shares[0])
        by_readout.addmm_(by_quantum, self._points)
        return by_quantum.T @ self._readout, moments
