"""The search of the tuning, on losses whose minimum is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import pytest

from quantum_hybrid.study.fits.fit import Settings
from quantum_hybrid.study.fits.tuning import FIRST, SMALLEST_SPREAD, STEPS, Trial, best_of, proposed

Loss = Callable[[Settings], float | None]
BEST = Settings(up_rate=0.012, down_rate=0.12, map_rate=0.006, spread=0.005)


def searched(loss: Loss, n_rounds: int = 5) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(n_rounds):
        trials += [Trial(settings, loss(settings)) for settings in proposed(trials)]
    return trials


def bowl(settings: Settings) -> float:
    """Squared distance from `BEST`, in logarithms."""
    return sum(math.log(v / getattr(BEST, name)) ** 2 for name, v in asdict(settings).items())


def test_it_comes_near_a_minimum_in_twenty_trials() -> None:
    trials = searched(bowl)
    assert len(trials) == 20
    best = best_of(trials)
    assert best.loss is not None
    assert best.loss < 0.3 * min(bowl(first) for first in FIRST)
    factors = [v / getattr(BEST, name) for name, v in asdict(best.settings).items()]
    assert all(1 / 2 < factor < 2 for factor in factors)


def test_more_trials_come_nearer() -> None:
    losses = [best_of(searched(bowl, n)).loss or 0.0 for n in (1, 2, 4, 8, 12)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 * losses[2]


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_what_is_found_does_not_depend_on_the_loss_but_by_its_order(factor) -> None:
    """So arms with large differences are searched as those with small ones."""
    chosen = [one.settings for one in searched(lambda settings: factor * bowl(settings) - 7)]
    assert chosen == [one.settings for one in searched(bowl)]


def test_each_round_changes_two_settings_of_the_best_trial_one_at_a_time() -> None:
    trials = searched(bowl, 3)
    for k in (1, 2):
        before, names = best_of(trials[: 4 * k]).settings, tuple(STEPS[k - 1])
        changed = [
            [name for name, v in asdict(one.settings).items() if v != getattr(before, name)]
            for one in trials[4 * k : 4 * k + 4]
        ]
        assert changed == [[names[0]], [names[0]], [names[1]], [names[1]]]


def test_a_spread_stays_above_what_can_be_told_from_rounding() -> None:
    trials = searched(lambda settings: settings.spread, 8)
    assert min(one.settings.spread for one in trials) == SMALLEST_SPREAD


def test_a_trial_that_diverged_is_no_centre() -> None:
    trials = searched(lambda one: None if one.spread > 0.01 else bowl(one))
    assert best_of(trials).settings.spread <= 0.01
    assert best_of(searched(lambda _: None)).settings == FIRST[0]
