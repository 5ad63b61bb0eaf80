"""The sweeps of `one_pass` on several threads, compiled by Numba: float32 on the CPU.

A thread that has finished a piece of the vocabulary takes the next one. Pieces do not depend on the
number of threads, so neither does any digit of the result.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.compiled.threads import run_on_threads
from quantum_hybrid.training.head_pass import vocabulary_kernel
from quantum_hybrid.training.head_pass.sweeps import Mixture

WORDS_PER_PIECE = 2048


def compile_kernel() -> None:
    """Compile the kernel now instead of at the first call on this machine."""
    chunk, mixture = torch.zeros(1, VECTOR_ROWS), Mixture(torch.ones(2), True)
    sweeps = CompiledSweeps(chunk, torch.zeros(1, 2), torch.zeros(VECTOR_ROWS, 2), mixture)
    normalisers = sweeps.normalisers(torch.zeros(1))
    sweeps.differentiate(normalisers, torch.zeros(4, VECTOR_ROWS), torch.zeros(1, 2))


class CompiledSweeps:
    """See `Sweeps`. Nothing else of the chunk's size is stored."""

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
        self._points = _flat(points.view(-1, VECTOR_ROWS, self._m).transpose(1, 2).contiguous())
        self._mixes, self._weights = mixture.of_logits, mixture.weights.numpy()

    def normalisers(self, ablated: Float[Tensor, " vocabulary"]) -> Float[Tensor, "4 rows"]:
        """See `Sweeps`."""
        found = torch.empty(len(self._pieces), 2, 4, self._n_rows)
        outs, constants = [_flat(out) for out in found], _flat(ablated)
        jobs = iter(
            zip(outs, self._pieces, strict=True)
        )  # Taking the next one is atomic under the GIL.

        def work(memory: np.ndarray) -> None:
            for out, words in jobs:
                vocabulary_kernel.add_up(
                    out, self._classical, self._readout, self._points, self._m, self._mixes,
                    constants, self._weights, *words, memory,
                )  # fmt: skip

        run_on_threads(work, len(self._pieces), vocabulary_kernel.WORK, np.dtype(np.float32))
        return (found[:, 0] + found[:, 1].log()).logsumexp(0)

    def differentiate(
        self,
        normalisers: Float[Tensor, "4 rows"],
        factors: Float[Tensor, "4 rows"],
        by_readout: Float[Tensor, "vocabulary m"],
    ) -> tuple[Float[Tensor, "rows m"], Float[Tensor, "2 rows"]]:
        """See `Sweeps`."""
        by_points = torch.zeros(
            len(self._pieces), self._n_rows // VECTOR_ROWS, self._m, VECTOR_ROWS
        )
        moments = torch.zeros(len(self._pieces), 2, self._n_rows)
        outs = [(_flat(x), _flat(y)) for x, y in zip(by_points, moments, strict=True)]
        readout_out, norms, parts = _flat(by_readout), _flat(normalisers), _flat(factors)
        jobs = iter(zip(outs, self._pieces, strict=True))

        def work(_: np.ndarray) -> None:
            for (points_out, moments_out), words in jobs:
                vocabulary_kernel.differentiate(
                    points_out, readout_out, moments_out, self._classical, self._readout,
                    self._points, self._m, self._mixes, self._weights, norms, parts, *words,
                )  # fmt: skip

        run_on_threads(work, len(self._pieces), 0, np.dtype(np.float32))
        by_points = by_points.sum(0).transpose(1, 2).reshape(self._n_rows, self._m)
        return by_points, moments.sum(0)


def _flat(tensor: Tensor) -> np.ndarray:
    """A tensor's memory as a one-dimensional array, not a copy."""
    return tensor.view(-1).numpy()
