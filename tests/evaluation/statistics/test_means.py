"""Means and intervals against a simulated truth, and against the textbook's formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.evaluation.statistics import MeanEstimate, mean_over_units

TRUE_MEAN, N_SETS = 0.3, 2000


def simulated(n_units: int) -> tuple[list[MeanEstimate], list[MeanEstimate]]:
    """Estimates from many sets of units of 3 to 7 rows, by units and as if rows were independent.

    Half of a row's variance is its unit's, so rows of one unit are alike.
    """
    generator = torch.Generator().manual_seed(n_units)
    lengths = 3 + torch.arange(n_units) % 5
    units = torch.arange(n_units).repeat_interleave(lengths)
    by_unit, by_row = [], []
    for _ in range(N_SETS):
        common = torch.randn(n_units, generator=generator, dtype=torch.float64)
        own = torch.randn(len(units), generator=generator, dtype=torch.float64)
        values = TRUE_MEAN + common[units] + own
        by_unit.append(mean_over_units(values, units))
        by_row.append(mean_over_units(values))
    return by_unit, by_row


def coverage(estimates: list[MeanEstimate], level: float) -> float:
    """The share of intervals that hold the true mean."""
    widths = [estimate.half_width(level) or 0.0 for estimate in estimates]
    covered = [abs(e.mean - TRUE_MEAN) < w for e, w in zip(estimates, widths, strict=True)]
    return sum(covered) / len(covered)


@pytest.mark.parametrize("n_units", [8, 40])
def test_errors_and_intervals_are_those_of_the_simulated_truth(n_units) -> None:
    by_unit, by_row = simulated(n_units)
    true_error = torch.tensor([e.mean for e in by_unit], dtype=torch.float64).std().item()
    squares = [(e.standard_error or 0.0) ** 2 for e in by_unit]
    # Three standard errors of the simulation's own coverage, and the bias of few unequal units.
    assert math.sqrt(sum(squares) / N_SETS) == pytest.approx(true_error, rel=0.06)
    assert 0.93 < coverage(by_unit, 0.95) < 0.97
    assert 0.87 < coverage(by_unit, 0.90) < 0.93
    assert coverage(by_row, 0.95) < 0.8, "rows that are alike are not as many facts"


@given(values=st.lists(st.floats(-5, 5), min_size=2, max_size=20), times=st.integers(1, 4))
@settings(derandomize=True, deadline=None)
def test_rows_that_only_repeat_their_unit_make_nothing_more_certain(values, times) -> None:
    """With one row a unit it is the usual s / sqrt(m)."""
    alone = torch.tensor(values, dtype=torch.float64)
    usual = float(alone.std()) / math.sqrt(len(values))
    units = torch.arange(len(values)).repeat_interleave(times)
    for got in (mean_over_units(alone), mean_over_units(alone.repeat_interleave(times), units)):
        assert got.mean == pytest.approx(float(alone.mean()), abs=1e-12)
        assert got.standard_error == pytest.approx(usual, abs=1e-9)
        assert got.n_units == len(values)


def test_units_may_have_any_numbers_in_any_order() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    expected = mean_over_units(values, torch.tensor([0, 0, 1, 1, 2]))
    order = torch.tensor([3, 4, 0, 2, 1])
    got = mean_over_units(values[order], torch.tensor([70, 70, -5, -5, 6])[order])
    assert got.standard_error == pytest.approx(expected.standard_error)
    assert got.n_units == 3


def test_the_quantile_is_that_of_the_table() -> None:
    estimate = MeanEstimate(mean=1.0, standard_error=2.0, n_units=8)
    assert estimate.half_width() == pytest.approx(2 * 2.3646, rel=1e-4)
    assert estimate.half_width(0.9) == pytest.approx(2 * 1.8946, rel=1e-4)


def test_a_single_unit_has_no_error() -> None:
    found = mean_over_units(torch.tensor([1.0, 2.0]), torch.tensor([4, 4]))
    assert found == MeanEstimate(1.5, None, 1)
    assert found.half_width() is None
