"""How many seeds a study needs, from the variances that a pilot has measured."""

from __future__ import annotations

import math

from scipy import stats

from quantum_hybrid.evaluation.statistics.crossed import MeanSquares

MOST_SEEDS = 1_000
"""More are not proposed."""


def power_to_tell(pilot: MeanSquares, delta: float, n_seeds: int, alpha: float) -> float:
    """Probability that a two-sided test at level alpha tells a true `delta` from 0."""
    error, df = pilot.standard_error(n_seeds), pilot.degrees_of_freedom(n_seeds)
    if error == 0:
        return float(delta != 0)
    t = abs(delta) / error
    limit = stats.t.isf(alpha / 2, df)
    # The other side's share; scipy may give NaN for one that is smaller than 1e-20.
    other = float(stats.nct.cdf(-limit, df, t))
    return float(stats.nct.sf(limit, df, t)) + (0.0 if math.isnan(other) else other)


def power_to_equate(
    pilot: MeanSquares, delta: float, margin: float, n_seeds: int, alpha: float
) -> float:
    """Probability that two one-sided tests at level alpha place a true `delta` within the margin.

    By Phillips 1990 (doi:10.1007/BF01063556), with the error taken as known: a little too high for
    few seeds.
    """
    error, df = pilot.standard_error(n_seeds), pilot.degrees_of_freedom(n_seeds)
    if error == 0:
        return float(abs(delta) < margin)
    limit = margin - stats.t.isf(alpha, df) * error
    if limit <= 0:
        return 0.0
    high, low = (limit - delta) / error, (-limit - delta) / error
    return float(stats.t.cdf(high, df) - stats.t.cdf(low, df))


def seeds_needed(
    pilot: MeanSquares, delta: float, margin: float, alpha: float, power: float = 0.9
) -> int | None:
    """The smallest number of seeds with which a true `delta` is told from 0, or placed within.

    None if no number will do up to `MOST_SEEDS`: then it takes more prompts.
    """

    def settles(n_seeds: int) -> bool:
        told = power_to_tell(pilot, delta, n_seeds, alpha)
        return max(told, power_to_equate(pilot, delta, margin, n_seeds, alpha)) >= power

    if not settles(MOST_SEEDS):  # Power grows with the number of seeds.
        return None
    return next(n_seeds for n_seeds in range(2, MOST_SEEDS + 1) if settles(n_seeds))
