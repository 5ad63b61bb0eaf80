"""The readouts of several arms, with their losses and gradients.

An arm's logits of a row are e^t C + U z + b: n numbers z that the arm computes, and the classical
logits C that all arms share, or none. docs/log.md has the times.

The kernel's gradients are exact and are not recorded by autograd: `backward` sets those of the
readouts and returns those of the points, for autograd to carry on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.study.fits.readouts import kernel

_NEVER = -1e9
"""Logit of a word that only fills the last block."""


class Readouts:
    """U, b and t of every arm, for float32 on the CPU."""

    def __init__(self, n_arms: int, n_words: int, n: int) -> None:
        """All zero: without C every word is equally likely, with C the prediction is C's."""
        self.n_words, self.n = n_words, n
        words, width = _filled(n_words, kernel.BLOCK), _filled(n, kernel.GROUP)
        self._weights = torch.zeros(n_arms, words, width)
        self._biases = torch.zeros(n_arms, words)
        self._biases[:, n_words:] = _NEVER
        self._by_weights = torch.zeros_like(self._weights)
        self._by_biases = torch.zeros_like(self._biases)
        # An arm's parameters share the memory of all, so that each arm has its own learning rates.
        self.weights = [nn.Parameter(weights[:n_words]) for weights in self._weights]
        self.biases = [nn.Parameter(biases[:n_words]) for biases in self._biases]
        self.log_scales = [nn.Parameter(torch.zeros(())) for _ in range(n_arms)]

    def __len__(self) -> int:
        """Number of arms."""
        return len(self.log_scales)

    def set_arm(
        self,
        arm: int,
        weights: Float[Tensor, "words n"],
        biases: Float[Tensor, " words"],
        log_scale: Float[Tensor, ""] | None = None,
    ) -> None:
        """Set an arm's U, b and, if it is given, t."""
        with torch.no_grad():
            if log_scale is not None:
                self.log_scales[arm].copy_(log_scale)
            self.weights[arm][:, : self.n].copy_(weights)
            self.biases[arm].copy_(biases)

    @torch.no_grad()
    def losses(
        self,
        points: Float[Tensor, "arms rows n"],
        targets: Int[Tensor, " _rows"],
        classical: Float[Tensor, "words filled_rows"] | None = None,
    ) -> Float[Tensor, "arms rows"]:
        """Cross-entropy of each arm and row, in nats.

        `classical` is C as `classical_logits` computes it. Raises `ValueError` for other shapes or
        types (rows and _rows must be equal), and for a target that is no word: the kernel checks no
        bounds.
        """
        return _Sweep(self, points, targets, classical).losses()

    @torch.no_grad()
    def backward(
        self,
        points: Float[Tensor, "arms rows n"],
        targets: Int[Tensor, " _rows"],
        classical: Float[Tensor, "words filled_rows"] | None = None,
    ) -> tuple[Float[Tensor, "arms rows"], Float[Tensor, "arms rows n"]]:
        """The losses, and the gradient by the points of every arm's mean loss.

        Sets the gradients of U, b and, with C, t.
        """
        sweep = _Sweep(self, points, targets, classical)
        losses = sweep.losses()
        by_points, by_scales = sweep.differentiate(self._by_weights, self._by_biases)
        for arm in range(len(self)):
            self.weights[arm].grad = self._by_weights[arm, : self.n_words]
            self.biases[arm].grad = self._by_biases[arm, : self.n_words]
            if classical is not None:
                self.log_scales[arm].grad = by_scales[arm] * self.log_scales[arm].exp()
        return losses, by_points

    def _check(self, points: Tensor, targets: Tensor, classical: Tensor | None) -> None:
        n_arms, n_rows, n = points.shape
        fits = (n_arms, n) == (len(self), self.n) and points.dtype == torch.float32
        if not fits or len(targets) != n_rows or n_rows == 0:
            raise ValueError(
                f"points {tuple(points.shape)} of {points.dtype} and {len(targets)} targets; "
                f"allowed: ({len(self)}, rows, {self.n}) of float32 and a target for each row, at "
                "least one"
            )
        if not 0 <= int(targets.min()) <= int(targets.max()) < self.n_words:
            raise ValueError(f"targets must be from 0 to {self.n_words - 1}")
        if classical is None:
            return
        filled = (self._biases.shape[1], _filled(n_rows, VECTOR_ROWS))
        if classical.shape != filled or classical.dtype != torch.float32:
            raise ValueError(
                f"classical is {tuple(classical.shape)} of {classical.dtype}; allowed: {filled} "
                "of float32, as classical_logits makes it"
            )


def classical_logits(
    features: Float[Tensor, "rows d_model"],
    decoder: Float[Tensor, "words d_model"],
    bias: Float[Tensor, " words"] | None = None,
) -> Float[Tensor, "filled_words filled_rows"]:
    """C in the order that the kernel reads: a word's logits of neighbouring rows together.

    Rows and words are filled with zeros to whole vectors and blocks.
    """
    rows, words = _filled(len(features), VECTOR_ROWS), _filled(len(decoder), kernel.BLOCK)
    logits = features.new_zeros(words, rows)
    torch.mm(
        decoder, F.pad(features, (0, 0, 0, rows - len(features))).T, out=logits[: len(decoder)]
    )
    if bias is not None:
        logits[: len(decoder)] += bias[:, None]
    return logits


def compile_kernel() -> None:
    """Compile the kernel now instead of at the first call on this machine."""
    readouts, points = Readouts(1, 1, 1), torch.zeros(1, 1, 1)
    classical = classical_logits(torch.zeros(1, 1), torch.zeros(1, 1))
    readouts.backward(points, torch.zeros(1, dtype=torch.int64), classical)


class _Sweep:
    """The kernel's arguments for one batch, and its results."""

    def __init__(
        self, readouts: Readouts, points: Tensor, targets: Tensor, classical: Tensor | None
    ) -> None:
        readouts._check(points, targets, classical)
        n_arms, self._n_rows, self._n = points.shape
        self._readouts, self._targets = readouts, targets
        weights, biases = readouts._weights, readouts._biases
        width = weights.shape[2]
        # The points of each row, and the same with neighbouring rows together, as the kernel reads.
        filled = F.pad(points, (0, width - self._n, 0, -self._n_rows % VECTOR_ROWS))
        self._points = filled[:, : self._n_rows]
        vectors = filled.view(n_arms, -1, VECTOR_ROWS, width).transpose(2, 3).contiguous()
        self._scales = torch.stack([t.detach().exp() for t in readouts.log_scales])
        self._of_targets = None  # C of each row's target
        logits = torch.zeros(0)
        if classical is not None:
            logits = classical.contiguous()
            self._of_targets = logits[targets, torch.arange(self._n_rows)]
        self._vectors = vectors
        arrays = map(_flat, (weights, biases, vectors))
        self._given = (*arrays, width, _flat(logits), _flat(self._scales))
        self._work = np.empty(kernel.work_length(width), np.float32)

    def losses(self) -> Float[Tensor, "arms rows"]:
        """Cross-entropies; needed before `differentiate`."""
        out = torch.empty(len(self._points), 2, self._vectors.shape[1] * VECTOR_ROWS)
        kernel.add_up(_flat(out), *self._given, self._work)
        self._normalisers = out[:, 0] + out[:, 1].log()
        return self._normalisers[:, : self._n_rows] - self._target_logits()

    def _target_logits(self) -> Float[Tensor, "arms rows"]:
        weights = self._readouts._weights[:, self._targets]
        logits = (weights * self._points).sum(-1) + self._readouts._biases[:, self._targets]
        if self._of_targets is not None:
            logits += self._scales[:, None] * self._of_targets
        return logits

    def differentiate(
        self, by_weights: Tensor, by_biases: Tensor
    ) -> tuple[Float[Tensor, "arms rows n"], Float[Tensor, " arms"]]:
        """Gradients of every arm's mean loss; those by U and b overwrite the given tensors.

        The second result is the derivative by e^t.
        """
        n_arms, n_rows, targets = len(self._points), self._n_rows, self._targets
        by_weights.zero_()
        by_biases.zero_()
        by_vectors = torch.zeros_like(self._vectors)
        by_scales = torch.zeros_like(self._normalisers)
        factors = torch.zeros(self._normalisers.shape[1])
        factors[:n_rows] = 1 / n_rows
        kernel.differentiate(
            _flat(by_weights), _flat(by_biases), _flat(by_vectors), _flat(by_scales), *self._given,
            _flat(self._normalisers), _flat(factors), self._work,
        )  # fmt: skip
        # The rest of softmax - one-hot: the target's word of each row.
        by_points = by_vectors.transpose(2, 3).flatten(1, 2)[:, :n_rows]
        by_points = by_points - self._readouts._weights[:, targets] / n_rows
        for arm in range(n_arms):
            by_weights[arm].index_add_(0, targets, self._points[arm], alpha=-1 / n_rows)
            by_biases[arm].index_add_(0, targets, factors[:n_rows], alpha=-1)
        sums = by_scales[:, :n_rows].sum(1)
        if self._of_targets is not None:
            sums -= self._of_targets.mean()
        return by_points[..., : self._n].contiguous(), sums


def _filled(count: int, unit: int) -> int:
    """The next multiple of the unit."""
    return math.ceil(count / unit) * unit


def _flat(tensor: Tensor) -> Any:
    """A tensor's memory as a one-dimensional array, not a copy."""
    return tensor.detach().view(-1).numpy()
