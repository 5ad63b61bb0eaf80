"""The common start of all arms: directions for `down`, and for each arm its `up`.

Without classical logits `up` starts as the linear discriminant of the next token given z, with the
classical pathway's predictions on calibration rows in place of counts, around the frequencies of
words in the training text. With them every arm starts as the classical pathway, recalibrated by a
scale and a bias of each word. Otherwise an arm would be credited with the unigram statistics that
its biases learn on the way: where the mean of z moves, U is a second bias and learns them faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.student.initialisation import fisher_projection, linear_discriminant
from quantum_hybrid.study.fits.fit import Contender, Start
from quantum_hybrid.study.fits.readouts import Readouts

ROWS_AT_ONCE = 256
PRIORS = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Tokens."""


class Recalibrated(NamedTuple):
    """The classical logits e^t C + b with which every arm starts beside C."""

    biases: Float[Tensor, " words"]
    """b."""
    log_scale: Float[Tensor, ""]
    """t."""


class Calibration:
    """Rows from which all contenders start: g, and the classical pathway's predictions there."""

    def __init__(
        self,
        g: Float[Tensor, "rows d_model"],
        features: Float[Tensor, "rows d_model"],
        decoder: Float[Tensor, "words d_model"],
        bias: Float[Tensor, " words"] | None = None,
    ) -> None:
        """features, decoder, bias: of the classical logits."""
        self._g, self._features, self._decoder, self._bias = g, features, decoder, bias
        sums = [rows.sum(0) for rows in self._probabilities()]
        self._probability = torch.stack(sums).sum(0) / len(g)

    def _probabilities(self) -> Iterator[Float[Tensor, "rows words"]]:
        for rows in self._features.split(ROWS_AT_ONCE):
            yield F.linear(rows, self._decoder, self._bias).softmax(-1).double()

    @torch.no_grad()
    def start(self, n: int) -> Start:
        """The start of `down`."""
        weight, bias = fisher_projection(self._g, self._decoder, self._probability, n, 1.0)
        return Start(weight.float(), bias.float())

    @torch.no_grad()
    def readouts(
        self,
        contenders: Sequence[Contender],
        recalibrated: Recalibrated | None,
        targets: Int[Tensor, " tokens"] | None = None,
    ) -> Readouts:
        """Begin the contenders, and give each its `up`.

        With `recalibrated` classical logits they stand beside these, without they are alone, and
        start at the frequencies of words among the targets, or at those that the classical pathway
        predicts.
        """
        n = contenders[0].down.out_features
        readouts = Readouts(len(contenders), len(self._decoder), n)
        for contender in contenders:
            contender.begin(self._g)
        if recalibrated is not None:
            weights = torch.zeros(len(self._decoder), n)
            for arm in range(len(contenders)):
                readouts.set_arm(arm, weights, recalibrated.biases, recalibrated.log_scale)
        else:
            frequencies = self._probability.log()
            if targets is not None:
                frequencies = log_frequencies(targets, self._probability)
            zs = torch.stack([contender(self._g) for contender in contenders]).double()
            for i, moments in enumerate(self._moments(zs)):
                readouts.set_arm(i, *self._up(zs[i], moments, frequencies))
        return readouts

    def _up(self, z: Tensor, moments: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        if (z == z[0]).all():  # Nothing to tell tokens apart by: the frequencies alone.
            return torch.zeros_like(moments).float(), frequencies.float()
        weight, bias = linear_discriminant(z, moments, self._probability)
        bias += frequencies - self._probability.log()
        return weight.float(), bias.float()

    def _moments(self, zs: Float[Tensor, "arms rows n"]) -> Float[Tensor, "arms words n"]:
        centred = zs - zs.mean(1, keepdim=True)
        n_arms, n_rows, n = zs.shape
        columns = centred.transpose(0, 1).reshape(n_rows, n_arms * n)
        moments = torch.zeros(len(self._decoder), n_arms * n, dtype=torch.float64)
        for p, part in zip(self._probabilities(), columns.split(ROWS_AT_ONCE), strict=True):
            moments += p.T @ part
        return (moments / n_rows).view(-1, n_arms, n).transpose(0, 1)


def log_frequencies(
    targets: Int[Tensor, " tokens"], expected: Float[Tensor, " words"]
) -> Float[Tensor, " words"]:
    """Log-probabilities of words from counts, with `expected` probabilities as prior.

    The prior's weight in tokens, one of `PRIORS`, maximises the leave-one-out likelihood: that of
    each token under all others.
    """
    counts = torch.bincount(targets, minlength=len(expected)).double()
    seen = counts > 0

    def likelihood(prior: float) -> float:
        others = counts[seen] - 1 + prior * expected[seen]
        return float((counts[seen] * (others / (len(targets) - 1 + prior)).log()).sum())

    prior = max(PRIORS, key=likelihood)
    return ((counts + prior * expected) / (len(targets) + prior)).log()
