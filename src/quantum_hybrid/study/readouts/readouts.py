"""The readouts of several arms, with their losses and gradients.

An arm's logits of a row are e^t C + U z + b: n numbers z that the arm computes, and the classical
logits C that all arms share, or none. One arm of 8 numbers takes about 0.03 ms a token for the loss
and 0.1 ms with gradients on one thread, at 49,152 words; plain torch takes about 1 ms.

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
from quantum_hybrid.study.readouts import kernel

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

    def set_arm(self, arm: int, weights: Float[Tensor, "words n"], biases: Tensor) -> None:
        """Set an arm's U and b."""
        with torch.no_grad():
            self.weights[arm][:, : self.n].copy_(weights)
            self.biases[arm].copy_(biases)

    @torch.no_grad()
    def losses(
        self,
        points: Float[Tensor, "arms rows n"],
        targets: Int[Tensor, " rows"],
        classical: Float[Tensor, "words filled_rows"] | None = None,
    ) -> Float[Tensor, "arms rows"]:
        """Cross-entropy of each arm and row, in nats.

        `classical` is C as `classical_logits` computes it.
        """
        sweep = _Sweep(self, points, classical)
        return sweep.losses(targets)

    @torch.no_grad()
    def backward(
        self,
        points: Float[Tensor, "arms rows n"],
        targets: Int[Tensor, " rows"],
        classical: Float[Tensor, "words filled_rows"] | None = None,
    ) -> tuple[Float[Tensor, "arms rows"], Float[Tensor, "arms rows n"]]:
        """The losses, and the gradient by the points of every arm's mean loss.

        Sets the gradients of U, b and, with C, t.
        """
        sweep = _Sweep(self, points, classical)
        losses = sweep.losses(targets)
        by_points, by_scales = sweep.differentiate(targets, self._by_weights, self._by_biases)
        for arm in range(len(self)):
            self.weights[arm].grad = self._by_weights[arm, : self.n_words]
            self.biases[arm].grad = self._by_biases[arm, : self.n_words]
            if classical is not None:
                self.log_scales[arm].grad = by_scales[arm] * self.log_scales[arm].exp()
        return losses, by_points

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return _flat(self._weights), _flat(self._biases)


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


class _Sweep:
    """The kernel's arguments for one batch, and its results."""

    def __init__(self, readouts: Readouts, points: Tensor, classical: Tensor | None) -> None:
        n_arms, n_rows, n = points.shape
        self._n_rows, self._n = n_rows, n
        weights, biases = readouts._arrays()
        width = len(weights) // len(biases)
        filled = F.pad(points, (0, width - n, 0, -n_rows % VECTOR_ROWS))
        self._points = filled.view(n_arms, -1, VECTOR_ROWS, width).transpose(2, 3).contiguous()
        self._scales = torch.stack([t.detach().exp() for t in readouts.log_scales])
        logits = np.zeros(0, np.float32) if classical is None else _flat(classical)
        self._classical = classical
        self._readouts = readouts
        self._given = (weights, biases, _flat(self._points), width, logits, _flat(self._scales))
        self._work = np.empty(kernel.work_length(width), np.float32)

    def losses(self, targets: Tensor) -> Tensor:
        n_arms, filled_rows = len(self._points), self._points.shape[1] * VECTOR_ROWS
        out = torch.empty(n_arms, 2, filled_rows)
        kernel.add_up(_flat(out), *self._given, self._work)
        self._normalisers = out[:, 0] + out[:, 1].log()
        return self._normalisers[:, : self._n_rows] - self._target_logits(targets)

    def _target_logits(self, targets: Tensor) -> Float[Tensor, "arms rows"]:
        readouts, rows = self._readouts, range(self._n_rows)
        weights, biases = readouts._weights[:, targets], readouts._biases[:, targets]
        points = self._points.transpose(2, 3).flatten(1, 2)[:, : self._n_rows]
        logits = (weights * points).sum(-1) + biases
        if self._classical is not None:
            logits += self._scales[:, None] * self._classical[targets, list(rows)]
        return logits

    def differentiate(
        self, targets: Tensor, by_weights: Tensor, by_biases: Tensor
    ) -> tuple[Float[Tensor, "arms rows n"], Float[Tensor, " arms"]]:
        """Gradients of every arm's mean loss; those by U and b overwrite the given tensors."""
        n_arms, n_rows = len(self._points), self._n_rows
        by_weights.zero_()
        by_biases.zero_()
        by_points = torch.zeros_like(self._points)
        by_scales = torch.zeros_like(self._normalisers)
        factors = torch.zeros(self._normalisers.shape[1])
        factors[:n_rows] = 1 / n_rows
        kernel.differentiate(
            _flat(by_weights), _flat(by_biases), _flat(by_points), _flat(by_scales), *self._given,
            _flat(self._normalisers.contiguous()), _flat(factors), self._work,
        )  # fmt: skip
        # The rest of softmax - one-hot: the target's word of each row.
        by_points = by_points.transpose(2, 3).flatten(1, 2)[:, :n_rows]
        points = self._points.transpose(2, 3).flatten(1, 2)[:, :n_rows]
        by_points = by_points - self._readouts._weights[:, targets] / n_rows
        for arm in range(n_arms):
            by_weights[arm].index_add_(0, targets, points[arm], alpha=-1 / n_rows)
            by_biases[arm].index_add_(0, targets, factors[:n_rows], alpha=-1)
        sums = by_scales[:, :n_rows].sum(1)
        if self._classical is not None:
            sums -= self._classical[targets, torch.arange(n_rows)].mean()
        return by_points[..., : self._n].contiguous(), sums


def _filled(count: int, unit: int) -> int:
    """The next multiple of the unit."""
    return math.ceil(count / unit) * unit


def _flat(tensor: Tensor) -> Any:
    """A tensor's memory as a one-dimensional array, not a copy."""
    return tensor.detach().view(-1).numpy()
