"""Power and numbers of seeds against simulation and against textbook tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from quantum_hybrid.evaluation.statistics import (
    MeanSquares,
    power_to_equate,
    power_to_tell,
    seeds_needed,
)

SEEDS_ONLY = MeanSquares(seed=0.0037**2 * 800, prompt=0.0, rest=0.0, n_seeds=5, n_prompts=800)
"""A standard deviation between seeds of 0.0037 nats, that of FINDINGS' prototype."""


def simulated(n_seeds: int, delta: float) -> np.ndarray:
    generator = np.random.default_rng(n_seeds)
    return delta + 0.0037 * generator.standard_normal((20_000, n_seeds))


def p_values(*arguments: Any, **options: Any) -> np.ndarray:
    return np.asarray(stats.ttest_1samp(*arguments, axis=1, **options))[1]


@pytest.mark.parametrize("n_seeds", [4, 8, 18])
def test_the_power_of_telling_is_that_of_simulated_t_tests(n_seeds) -> None:
    found = p_values(simulated(n_seeds, 0.004), 0) <= 0.05
    expected = power_to_tell(SEEDS_ONLY, 0.004, n_seeds, alpha=0.05)
    assert expected == pytest.approx(found.mean(), abs=0.01)


@pytest.mark.parametrize("n_seeds", [8, 18])
def test_the_power_of_equating_is_that_of_simulated_pairs_of_tests(n_seeds) -> None:
    samples = simulated(n_seeds, 0.0)
    above = p_values(samples, -0.005, alternative="greater")
    below = p_values(samples, 0.005, alternative="less")
    found = np.maximum(above, below) <= 0.05
    expected = power_to_equate(SEEDS_ONLY, 0.0, 0.005, n_seeds, alpha=0.05)
    assert expected == pytest.approx(found.mean(), abs=0.05)


def test_the_number_of_seeds_is_the_first_that_is_enough() -> None:
    needed = seeds_needed(SEEDS_ONLY, 0.005, 0.002, alpha=0.05)
    assert needed is not None
    assert power_to_tell(SEEDS_ONLY, 0.005, needed, 0.05) >= 0.9
    assert power_to_tell(SEEDS_ONLY, 0.005, needed - 1, 0.05) < 0.9


def test_what_prompts_leave_open_no_number_of_seeds_settles() -> None:
    pilot = MeanSquares(seed=1e-6, prompt=5.0, rest=1e-6, n_seeds=5, n_prompts=100)
    assert seeds_needed(pilot, 0.004, 0.005, alpha=0.05) is None


@pytest.mark.parametrize("n_standard_errors", [0.0, 3.0, 12.0, 20.0, -12.0, 500.0])
def test_the_power_is_a_probability_also_for_clear_effects(n_standard_errors) -> None:
    """scipy's noncentral t gives NaN far out, which would read as "no number of seeds will do"."""
    pilot = MeanSquares(seed=0.0, prompt=1e-6, rest=1e-3, n_seeds=10, n_prompts=800)
    delta = n_standard_errors * pilot.standard_error()
    power = power_to_tell(pilot, delta, 10, alpha=0.05)
    assert 0.05 - 1e-9 <= power <= 1
    if abs(n_standard_errors) >= 12:
        assert power == pytest.approx(1)
        assert seeds_needed(pilot, delta, 1e-9, alpha=0.05) is not None
