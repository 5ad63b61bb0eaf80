"""What `one_pass` does to a chunk of logits, word by word: compiled, or in plain torch.

A chunk is (vocabulary, rows), since that is how the projection is quickest. ``readout``
(vocabulary, m) times ``points`` (rows, m) is Q. Both classes give the same numbers; the compiled
one reads the chunk once to sum and once to differentiate, and stores nothing else as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit.threads import share

LANES = 16
"""The rows of a chunk are a multiple of this."""
WORDS_PER_PIECE = 2048
"""What a thread takes at a time."""


@dataclass(frozen=True)
class Mixture:
    """How H comes of C and Q."""

    weights: Float[Tensor, "2"]
    """What C and Q are multiplied by."""
    of_logits: bool
    """H = weights[0] C + weights[1] Q; if false, probabilities are mixed, and nobody needs H."""


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
        return CompiledSweeps(classical, readout, points, mixture)
    return TorchSweeps(classical, readout, points, mixture)


def compile_kernel() -> None:
    """Have the kernel compiled now, rather than at the first call on this machine."""
    chunk, mixture = torch.zeros(1, LANES), Mixture(torch.ones(2), True)
    sweeps = CompiledSweeps(chunk, torch.zeros(1, 2), torch.zeros(LANES, 2), mixture)
    normalisers = sweeps.normalisers(torch.zeros(1))
    sweeps.differentiate(normalisers, torch.zeros(4, LANES), torch.zeros(1, 2))


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
        part = self._mixture.weights[0] * self._classical
        mixed = part + self._mixture.weights[1] * self._quantum
        logits = (self._classical, self._quantum, mixed, part + ablated[:, None])
        return torch.stack([x.logsumexp(0) for x in logits])

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        shares: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """See `Sweeps`."""
        classical, quantum, weights = self._classical, self._quantum, self._mixture.weights
        p = (weights[0] * classical + weights[1] * quantum - normalisers[2]).exp_()
        moments = torch.stack([(p * classical).sum(0), (p * quantum).sum(0)])
        by_quantum = shares[1] * (quantum - normalisers[1]).exp_() + shares[3] * p
        classical.sub_(normalisers[0]).exp_().mul_(shares[0]).addcmul_(p, shares[2].expand_as(p))
        by_readout.addmm_(by_quantum, self._points)
        return by_quantum.T @ self._readout, moments


class CompiledSweeps:
    """float32 on the CPU, on several threads; no digit depends on how many."""

    def __init__(
        self,
        classical: Float[Tensor, "vocabulary rows"],
        readout: Float[Tensor, "vocabulary m"],
        points: Float[Tensor, "rows m"],
        mixture: Mixture,
    ) -> None:
        n_words, self._n_rows = classical.shape
        starts = range(0, n_words, WORDS_PER_PIECE)
        self._pieces = [(start, min(start + WORDS_PER_PIECE, n_words)) for start in starts]
        self._m = points.shape[1]
        self._classical = _flat(classical)
        self._readout = _flat(readout)
        self._points = _flat(points.view(-1, LANES, self._m).transpose(1, 2).contiguous())
        self._mixes, self._weights = mixture.of_logits, mixture.weights.numpy()

    def normalisers(self, ablated: Float[Tensor, " vocabulary"]) -> Float[Tensor, "4 rows"]:
        """See `Sweeps`."""
        from quantum_hybrid.training import vocabulary_kernel  # Numba takes its time to import.

        found = torch.empty(len(self._pieces), 2, 4, self._n_rows)
        outs, constants = [_flat(out) for out in found], _flat(ablated)
        jobs = iter(zip(outs, self._pieces, strict=True))  # The next one is taken atomically.

        def work(memory: np.ndarray) -> None:
            for out, words in jobs:
                vocabulary_kernel.add_up(
                    out, self._classical, self._readout, self._points, self._m, self._mixes,
                    constants, self._weights, *words, memory,
                )  # fmt: skip

        share(work, len(self._pieces), vocabulary_kernel.WORK, np.dtype(np.float32))
        return (found[:, 0] + found[:, 1].log()).logsumexp(0)

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        shares: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """See `Sweeps`."""
        from quantum_hybrid.training import vocabulary_kernel

        by_points = torch.zeros(len(self._pieces), self._n_rows // LANES, self._m, LANES)
        moments = torch.zeros(len(self._pieces), 2, self._n_rows)
        outs = [(_flat(x), _flat(y)) for x, y in zip(by_points, moments, strict=True)]
        readout_out, norms, parts = _flat(by_readout), _flat(normalisers), _flat(shares)
        jobs = iter(zip(outs, self._pieces, strict=True))

        def work(_: np.ndarray) -> None:
            for (points_out, moments_out), words in jobs:
                vocabulary_kernel.differentiate(
                    points_out, readout_out, moments_out, self._classical, self._readout,
                    self._points, self._m, self._mixes, self._weights, norms, parts, *words,
                )  # fmt: skip

        share(work, len(self._pieces), 0, np.dtype(np.float32))
        by_points = by_points.sum(0).transpose(1, 2).reshape(self._n_rows, self._m)
        return by_points, moments.sum(0)


def _flat(tensor: Tensor) -> np.ndarray:
    """Its own memory, one-dimensional."""
    return tensor.view(-1).numpy()
