"""Verdicts on simulated losses of known differences."""

from __future__ import annotations

import numpy as np
import pytest

from quantum_hybrid.study.verdict import Verdict, compare

N_SEEDS, N_PROMPTS = 8, 200


@pytest.fixture(scope="module")
def comparisons():
    """Rivals that are worse by 0.05, better by 0.05, alike, and too noisy to tell."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(20, 65, N_PROMPTS).astype(float)
    prompts = 3 + generator.standard_normal(N_PROMPTS)

    def losses(mean: float, noise: float) -> np.ndarray:
        seeds = noise * generator.standard_normal((N_SEEDS, 1))
        rest = noise * generator.standard_normal((N_SEEDS, N_PROMPTS))
        return tokens * (prompts + mean + seeds + rest)

    rivals = {
        "worse": losses(0.05, 0.002),
        "better": losses(-0.05, 0.002),
        "alike": losses(0.0, 0.0005),
        "unclear": losses(0.0, 0.05),
    }
    found = compare(losses(0.0, 0.0005), rivals, tokens, margin=0.005, seed=0)
    return {comparison.rival: comparison for comparison in found}


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [
        ("worse", Verdict.BETTER),
        ("better", Verdict.WORSE),
        ("alike", Verdict.EQUIVALENT),
        ("unclear", Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_is_said_of_the_subject(comparisons, rival, verdict) -> None:
    assert comparisons[rival].verdict == verdict


def test_a_positive_difference_means_that_the_rival_loses_more(comparisons) -> None:
    low, high = comparisons["worse"].interval
    assert 0 < low < 0.05 < high


def test_more_seeds_are_asked_for_where_little_is_known(comparisons) -> None:
    assert comparisons["unclear"].seeds_needed > N_SEEDS
    assert comparisons["worse"].seeds_needed <= N_SEEDS


def test_an_arm_that_diverged_gets_no_verdict() -> None:
    """NaN compares false, so its p-values would be the smallest there are."""
    sums = np.ones((N_SEEDS, N_PROMPTS))
    diverged = sums.copy()
    diverged[0, 0] = np.nan
    with pytest.raises(ValueError, match="diverged has no difference"):
        compare(sums, {"diverged": diverged}, np.ones(N_PROMPTS), margin=0.005, seed=0)


def test_an_arm_of_the_same_losses_is_equivalent() -> None:
    sums = np.ones((N_SEEDS, N_PROMPTS))
    (found,) = compare(sums, {"the same": sums}, np.ones(N_PROMPTS), margin=0.005, seed=0)
    assert found.verdict == Verdict.EQUIVALENT
    assert found.seeds_needed == 2


def test_p_values_are_adjusted_for_the_number_of_rivals(comparisons) -> None:
    """Holm multiplies the smallest of four by four."""
    smallest = min(comparison.p_different for comparison in comparisons.values())
    assert smallest == pytest.approx(4 * 2 / 10_000)
