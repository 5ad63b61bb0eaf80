"""The verdict on the subject against each rival of a regime.

The difference is the rival's loss minus the subject's: positive if the circuit is better. With
p-values adjusted by Holm (1979) over the rivals of a regime, each family of tests by itself:

    better, worse   the difference is significantly not 0, and not placed within the margin
    equivalent      it is placed within the margin
    inconclusive    neither
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float
from statsmodels.stats.multitest import multipletests

from quantum_hybrid.evaluation.statistics import (
    CrossedDifference,
    MultiBootstrap,
    OverSeeds,
    seeds_needed,
)

ALPHA = 0.05


class Verdict(StrEnum):
    """What is said of the subject, compared with a rival."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """The subject compared with one rival."""

    rival: str
    difference: CrossedDifference
    interval: tuple[float, float]
    """Of the difference, at level 1 - `ALPHA`, not adjusted; nats per token."""
    p_different: float
    """Of "the difference is 0", adjusted by Holm."""
    p_within: float
    """Of "the difference is not within the margin", adjusted by Holm."""
    over_seeds: OverSeeds
    """A second opinion, not adjusted."""
    seeds_needed: int | None
    """For a verdict with 90 % power if the difference is what was found; None if no number will
    do without more prompts."""

    @property
    def verdict(self) -> Verdict:
        """See the module."""
        if self.p_within <= ALPHA:
            return Verdict.EQUIVALENT
        if self.p_different > ALPHA:
            return Verdict.INCONCLUSIVE
        return Verdict.BETTER if self.difference.mean > 0 else Verdict.WORSE


def compare(
    subject: Float[np.ndarray, "seeds prompts"],
    rivals: Mapping[str, Float[np.ndarray, "seeds prompts"]],
    tokens: Float[np.ndarray, " prompts"],
    margin: float,
    seed: int,
) -> list[Comparison]:
    """The subject against each rival.

    Args:
        subject, rivals: loss of each prompt, summed over its tokens, in nats.
        tokens: of each prompt's answer.
        margin: differences up to this are of no interest, in nats per token.
        seed: of the bootstrap's draws.
    """
    differences = {name: CrossedDifference(sums - subject, tokens) for name, sums in rivals.items()}
    draws = {name: MultiBootstrap(found, seed) for name, found in differences.items()}
    different = _holm([draw.p_different() for draw in draws.values()])
    within = _holm([draw.p_within(margin) for draw in draws.values()])
    level = ALPHA / len(rivals)  # The strictest of Holm's steps.
    return [
        Comparison(
            name,
            found,
            draws[name].interval(1 - ALPHA),
            p_different,
            p_within,
            OverSeeds.of(found),
            seeds_needed(found.mean_squares, found.mean, margin, level),
        )
        for (name, found), p_different, p_within in zip(
            differences.items(), different, within, strict=True
        )
    ]


def _holm(p_values: list[float]) -> list[float]:
    _, adjusted, *_ = multipletests(p_values, method="holm")
    return [float(p) for p in np.asarray(adjusted)]
