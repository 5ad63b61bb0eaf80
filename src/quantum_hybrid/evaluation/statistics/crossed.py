"""Paired differences of losses over seeds crossed with prompts: mean, error, interval, p-values.

Every seed is evaluated on the same prompts, so both are sampled: with other seeds or other prompts
the mean would be another. A sum over tokens D[s, p] = mean + seed s + prompt p + rest, all random.

The interval is the Multi-Bootstrap's (Sellam et al. 2021, arXiv:2106.16163): seeds and prompts are
drawn anew, with replacement, and the statistic is computed on what was drawn. The statistic is
studentised, (mean* - mean) / error*, since the percentiles of mean* itself are too narrow for few
seeds: drawn from 10 seeds they have the variance of 9 (docs/log.md has the coverage of both).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import stats

REPLICATES = 9_999
"""Draws of the bootstrap. With one more, the usual levels fall on one of its quantiles."""
_REPLICATES_AT_ONCE = 1_111


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of a two-way layout with one value a cell, seeds x prompts.

    In nats per token: a cell's sum is divided by the mean number of tokens of a prompt.
    """

    seed: float
    prompt: float
    rest: float
    n_seeds: int
    n_prompts: int

    @property
    def variances(self) -> tuple[float, float, float]:
        """Variance components of seed, prompt and rest; an estimate below zero is set to zero."""
        seed = max(self.seed - self.rest, 0.0) / self.n_prompts
        prompt = max(self.prompt - self.rest, 0.0) / self.n_seeds
        return seed, prompt, self.rest

    def standard_error(self, n_seeds: int | None = None, *, undivided: bool = False) -> float:
        """Standard error of the mean, of another number of seeds if it is given.

        `undivided` adds the variance between seeds once more, as if one seed stood for all.
        """
        return math.sqrt(sum(part for _, part in self._parts(n_seeds, undivided)))

    def degrees_of_freedom(self, n_seeds: int | None = None, *, undivided: bool = False) -> float:
        """Of that error, by Satterthwaite (1946, doi:10.2307/3002019)."""
        parts = self._parts(n_seeds, undivided)
        total = sum(part for _, part in parts)
        return total**2 / sum(part**2 / df for df, part in parts) if total else math.inf

    def _parts(self, n_seeds: int | None, undivided: bool) -> list[tuple[int, float]]:
        """Degrees of freedom and variance of each part of the squared error."""
        n_seeds, n_prompts = n_seeds or self.n_seeds, self.n_prompts
        seed, prompt, rest = self.variances
        return [
            (n_seeds - 1, seed / n_seeds + (seed if undivided else 0.0)),
            (n_prompts - 1, prompt / n_prompts),
            ((n_seeds - 1) * (n_prompts - 1), rest / (n_seeds * n_prompts)),
        ]


@dataclass(frozen=True)
class CrossedDifference:
    """Loss of one arm minus loss of another, on the same seeds and the same held-out answers."""

    sums: Float[np.ndarray, "seeds prompts"]
    """Difference of each prompt's loss, summed over its tokens, in nats."""
    tokens: Float[np.ndarray, " prompts"]
    """Tokens of each prompt's answer."""

    def __post_init__(self) -> None:
        n_seeds, n_prompts = self.sums.shape
        if n_seeds < 2 or n_prompts < 2:
            raise ValueError(f"{n_seeds} seeds x {n_prompts} prompts: at least 2 x 2 are needed")
        if not np.isfinite(self.sums).all():  # NaN compares false, which would read as a verdict.
            raise ValueError("a loss is not finite: an arm that diverged has no difference")

    @property
    def mean(self) -> float:
        """Mean over seeds and tokens, in nats per token."""
        return float(self.sums.sum() / (len(self.sums) * self.tokens.sum()))

    @cached_property
    def mean_squares(self) -> MeanSquares:
        """The layout's mean squares about the mean (a ratio estimator, so about its residuals)."""
        n_seeds, n_prompts = self.sums.shape
        cells = (self.sums - self.mean * self.tokens) / self.tokens.mean()
        of_seeds, of_prompts = cells.mean(1), cells.mean(0)
        rest = cells - of_seeds[:, None] - of_prompts
        return MeanSquares(
            seed=n_prompts * float((of_seeds**2).sum()) / (n_seeds - 1),
            prompt=n_seeds * float((of_prompts**2).sum()) / (n_prompts - 1),
            rest=float((rest**2).sum()) / ((n_seeds - 1) * (n_prompts - 1)),
            n_seeds=n_seeds,
            n_prompts=n_prompts,
        )

    @property
    def standard_error(self) -> float:
        """Of the mean, over seeds and prompts."""
        return self.mean_squares.standard_error()

    def interval_for_other_training_data(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the mean that another training set would have given.

        The seeds draw from one training set, so averaging over them does not reduce its variance.
        Half-sampling puts about that variance between the seeds, beside that of initial values
        and orders; all of it is added (docs/log.md#instrument).
        """
        df = self.mean_squares.degrees_of_freedom(undivided=True)
        error = self.mean_squares.standard_error(undivided=True)
        half = float(stats.t.isf((1 - level) / 2, df)) * error
        return self.mean - half, self.mean + half

    @property
    def of_seeds(self) -> Float[np.ndarray, " seeds"]:
        """Mean of each seed, in nats per token."""
        return self.sums.sum(1) / self.tokens.sum()


class MultiBootstrap:
    """The distribution of (mean* - mean) / error* over draws of seeds and prompts."""

    def __init__(self, difference: CrossedDifference, seed: int, replicates: int = REPLICATES):
        """seed: of the draws; the same gives the same interval."""
        self.difference = difference
        generator = np.random.default_rng(seed)
        counts = [_REPLICATES_AT_ONCE] * (replicates // _REPLICATES_AT_ONCE)
        if rest := replicates % _REPLICATES_AT_ONCE:
            counts.append(rest)
        self._t = np.sort(np.concatenate([self._draw(generator, n) for n in counts]))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval of the mean, in nats per token."""
        mean, error = self.difference.mean, self.difference.standard_error
        low, high = np.quantile(self._t, [(1 - level) / 2, (1 + level) / 2])
        return float(mean - high * error), float(mean - low * error)

    def p_different(self) -> float:
        """Two-sided p-value of "the mean is 0"."""
        return min(1.0, 2 * min(self._p_above(0.0), self._p_below(0.0)))

    def p_within(self, margin: float) -> float:
        """p-value of "the mean is -margin or less, or margin or more": two one-sided tests.

        Schuirmann 1987, doi:10.1007/BF01068419.
        """
        return max(self._p_above(-margin), self._p_below(margin))

    def _p_above(self, value: float) -> float:
        """One-sided p-value of "the mean is `value` or less"."""
        return self._tail(self._t >= self._distance(value))

    def _p_below(self, value: float) -> float:
        return self._tail(self._t <= self._distance(value))

    def _distance(self, value: float) -> float:
        """From `value` to the mean, in standard errors."""
        excess, error = self.difference.mean - value, self.difference.standard_error
        return excess / error if error else math.copysign(math.inf, excess) if excess else 0.0

    def _tail(self, beyond: np.ndarray) -> float:
        """The share of draws beyond, the measured one counted among them."""
        return (int(beyond.sum()) + 1) / (len(self._t) + 1)

    def _draw(self, generator: np.random.Generator, n: int) -> Float[np.ndarray, " n"]:
        """(mean* - mean) / error* of n draws.

        A draw is how often each seed and each prompt was taken; sums over what was drawn are then
        products of matrices. The formulas are those of `CrossedDifference`.
        """
        sums, tokens = self.difference.sums, self.difference.tokens
        n_seeds, n_prompts = sums.shape
        seeds = generator.multinomial(n_seeds, [1 / n_seeds] * n_seeds, n).astype(float)
        prompts = generator.multinomial(n_prompts, [1 / n_prompts] * n_prompts, n).astype(float)
        n_tokens = prompts @ tokens
        of_seeds = prompts @ sums.T
        means = (seeds * of_seeds).sum(1) / (n_seeds * n_tokens)
        per_prompt = n_tokens / n_prompts

        # Cells of the layout: (sum - mean* of its tokens) / mean* tokens of a prompt.
        of_seeds = (of_seeds - (n_tokens * means)[:, None]) / n_prompts
        of_prompts = seeds @ sums / n_seeds - np.outer(means, tokens)
        between_seeds = n_prompts * (seeds * of_seeds**2).sum(1)
        between_prompts = n_seeds * (prompts * of_prompts**2).sum(1)
        total = ((seeds @ sums**2) * prompts).sum(1)
        total -= 2 * means * ((seeds @ (sums * tokens)) * prompts).sum(1)
        total += means**2 * n_seeds * (prompts @ tokens**2)
        rest = np.maximum(total - between_seeds - between_prompts, 0.0)

        rest /= (n_seeds - 1) * (n_prompts - 1)
        seed = np.maximum(between_seeds / (n_seeds - 1) - rest, 0.0)
        prompt = np.maximum(between_prompts / (n_prompts - 1) - rest, 0.0)
        errors = np.sqrt((seed + prompt + rest) / (n_seeds * n_prompts)) / per_prompt
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nan_to_num((means - self.difference.mean) / errors)


@dataclass(frozen=True)
class OverSeeds:
    """A second opinion, from the seeds' means alone: it says nothing about other prompts."""

    p_t: float
    """Paired t test."""
    p_wilcoxon: float
    """Wilcoxon's signed-rank test."""

    @classmethod
    def of(cls, difference: CrossedDifference) -> OverSeeds:
        """Both two-sided tests."""
        means = difference.of_seeds
        if not means.any():
            return cls(1.0, 1.0)
        _, p_t = np.asarray(stats.ttest_1samp(means, 0.0))
        _, p_wilcoxon = np.asarray(stats.wilcoxon(means))
        return cls(float(p_t), float(p_wilcoxon))
