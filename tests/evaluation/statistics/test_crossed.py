"""Paired differences of seeds x prompts against simulated data of known truth."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from quantum_hybrid.evaluation.statistics import CrossedDifference, MultiBootstrap, OverSeeds

N_SIMULATED = 400
N_SEEDS, N_PROMPTS = 6, 60
COMPONENTS = {
    "seeds vary": (0.02, 0.0, 0.1),
    "prompts vary": (0.0, 0.1, 0.3),
    "both vary": (0.02, 0.1, 0.3),
}
"""Standard deviations of seed and prompt in nats per token, of the rest for one token."""


def simulated(
    generator: np.random.Generator, mean: float, seed: float, prompt: float, rest: float
) -> CrossedDifference:
    tokens = generator.integers(5, 65, N_PROMPTS).astype(float)
    differences = (
        mean
        + seed * generator.standard_normal((N_SEEDS, 1))
        + prompt * generator.standard_normal((1, N_PROMPTS))
        + rest * generator.standard_normal((N_SEEDS, N_PROMPTS)) / np.sqrt(tokens)
    )
    return CrossedDifference(differences * tokens, tokens)


@cache
def many(which: str) -> list[MultiBootstrap]:
    generator = np.random.default_rng(1)
    differences = [simulated(generator, 0.01, *COMPONENTS[which]) for _ in range(N_SIMULATED)]
    return [MultiBootstrap(difference, seed=0, replicates=499) for difference in differences]


@pytest.mark.parametrize("which", COMPONENTS)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_hold_the_truth_as_often_as_they_say(which, level) -> None:
    intervals = [bootstrap.interval(level) for bootstrap in many(which)]
    covered = np.mean([low < 0.01 < high for low, high in intervals])
    # Three standard errors of the simulation, which are 1.5 and 1.1 points.
    assert abs(covered - level) < 3 * math.sqrt(level * (1 - level) / N_SIMULATED)


@pytest.mark.parametrize("which", COMPONENTS)
def test_the_error_is_that_of_the_simulated_means(which) -> None:
    differences = [bootstrap.difference for bootstrap in many(which)]
    true_error = np.std([difference.mean for difference in differences])
    estimated = math.sqrt(np.mean([difference.standard_error**2 for difference in differences]))
    assert estimated == pytest.approx(true_error, rel=0.1)
    variances = np.mean([difference.mean_squares.variances for difference in differences], 0)
    seed, prompt, rest = COMPONENTS[which]
    assert variances[0] == pytest.approx(seed**2, rel=0.15, abs=2e-5)
    assert variances[1] == pytest.approx(prompt**2 * (1 + 0.25), rel=0.15, abs=2e-4)
    # A cell is a sum over tokens, divided by the mean number of tokens, 34.5; a seed's effect is in
    # proportion to them, whose relative variance is 1/4.
    assert variances[2] == pytest.approx(rest**2 / 34.5 + seed**2 / 4, rel=0.15)


def test_seeds_alone_are_too_sure_where_prompts_vary() -> None:
    opinions = [OverSeeds.of(bootstrap.difference) for bootstrap in many("prompts vary")]
    false = np.mean([opinion.p_t < 0.05 for opinion in opinions])
    assert false > 0.3, "the paired t test says nothing about other prompts"


@pytest.mark.parametrize("which", COMPONENTS)
def test_p_values_and_intervals_agree(which) -> None:
    for bootstrap in many(which)[:100]:
        low, high = bootstrap.interval(0.95)
        p = bootstrap.p_different()
        # The tails' count includes the measured one, so p is a replicate above the interval's.
        if p <= 0.05:
            assert not low < 0 < high
        if p > 0.06:
            assert low <= 0 <= high
        narrow, wide = bootstrap.interval(0.9)
        if bootstrap.p_within(0.02) <= 0.05:
            assert max(-narrow, wide) < 0.02


def test_a_true_difference_of_the_margin_is_placed_within_it_in_at_most_one_of_twenty() -> None:
    bootstraps = many("both vary")
    p = [bootstrap.p_within(0.01) for bootstrap in bootstraps]
    assert np.mean([value <= 0.05 for value in p]) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_margin_far_beyond_the_error_is_equivalence() -> None:
    bootstrap = many("seeds vary")[0]
    assert bootstrap.p_within(1.0) == pytest.approx(1 / 500)
    assert bootstrap.p_within(1e-6) > 0.5


def test_with_one_token_a_prompt_the_seeds_tests_are_scipys() -> None:
    generator = np.random.default_rng(2)
    sums = generator.standard_normal((7, 9)) + 0.4
    opinion = OverSeeds.of(CrossedDifference(sums, np.ones(9)))
    assert opinion.p_t == stats.ttest_1samp(sums.mean(1), 0)[1]
    assert opinion.p_wilcoxon == stats.wilcoxon(sums.mean(1))[1]


def test_mean_squares_are_those_of_the_analysis_of_variance() -> None:
    """A worked two-way table without replication: Box, Hunter & Hunter's penicillin yields."""
    table = np.array(
        [[89, 88, 97, 94], [84, 77, 92, 79], [81, 87, 87, 85], [87, 92, 89, 84], [79, 81, 80, 88]],
        dtype=float,
    )
    squares = CrossedDifference(table, np.ones(4)).mean_squares
    assert squares.seed == pytest.approx(264 / 4)
    assert squares.prompt == pytest.approx(70 / 3)
    assert squares.rest == pytest.approx(226 / 12)


def test_the_same_seed_gives_the_same_interval() -> None:
    difference = many("both vary")[0].difference
    one, two, other = (MultiBootstrap(difference, seed, 499).interval() for seed in (0, 0, 1))
    assert one == two != other


def test_an_arm_is_no_different_from_itself() -> None:
    bootstrap = MultiBootstrap(CrossedDifference(np.zeros((3, 4)), np.ones(4)), 0, 499)
    assert bootstrap.interval() == (0.0, 0.0)
    assert bootstrap.p_different() == 1.0
    assert OverSeeds.of(bootstrap.difference) == OverSeeds(1.0, 1.0)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_one_seed_or_one_prompt_is_refused(shape) -> None:
    with pytest.raises(ValueError, match="at least 2 x 2 are needed"):
        CrossedDifference(np.ones(shape), np.ones(shape[1]))


def test_an_interval_for_other_training_data_covers_what_all_seeds_share() -> None:
    generator = np.random.default_rng(0)
    tokens = np.full(50, 10.0)
    n_covered = n_narrow = 0
    for _ in range(400):
        # A half sample a seed varies as the training set does, which all seeds share.
        shared, own = generator.normal(0, 0.01), generator.normal(0, 0.01, (8, 1))
        cells = 0.02 + shared + own + generator.normal(0, 0.02, (8, 50))
        difference = CrossedDifference(10 * cells, tokens)
        low, high = difference.interval_for_other_training_data()
        narrow = 2 * difference.standard_error
        n_covered += low <= 0.02 <= high
        n_narrow += abs(difference.mean - 0.02) <= narrow
    assert n_covered >= 0.9 * 400
    assert n_narrow < 0.8 * 400


class Drawn(np.random.Generator):
    """A generator whose draws are known: how often each seed and each prompt is taken."""

    def __init__(self, *counts: list[int]) -> None:
        super().__init__(np.random.PCG64())
        self._counts = iter(counts)

    def multinomial(self, *_: object) -> np.ndarray:
        return np.array([next(self._counts)])


def test_a_draw_has_the_mean_and_the_error_of_the_same_units_written_out() -> None:
    generator = np.random.default_rng(3)
    sums, tokens = generator.normal(0.1, 1, (4, 6)), np.array([3.0, 5, 8, 2, 7, 4])
    seeds, prompts = [2, 0, 1, 1], [0, 3, 1, 0, 1, 1]
    taken = np.repeat(np.repeat(sums, seeds, axis=0), prompts, axis=1)
    expected = CrossedDifference(taken, np.repeat(tokens, prompts))
    difference = CrossedDifference(sums, tokens)
    boot = MultiBootstrap(difference, seed=0, replicates=10)
    (t,) = boot._draw(Drawn(seeds, prompts), 1)
    assert t == pytest.approx((expected.mean - difference.mean) / expected.standard_error)
