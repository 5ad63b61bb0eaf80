"""The study's benchmark at a small size: it agrees with plain torch, and its rows are complete."""

from __future__ import annotations

import pytest
import torch

from benchmarks.study import Case, measure


@pytest.mark.parametrize("beside", [False, True])
def test_both_sweeps_and_plain_torch_are_timed(beside) -> None:
    rows = measure(Case(200, 20, 2, beside=beside))
    assert [row["way"] for row in rows] == ["loss and gradients", "loss", "plain torch"]
    assert all(row["us_per_token_and_arm"] > 0 for row in rows)


def test_ways_that_do_not_agree_are_not_timed() -> None:
    case = Case(200, 20, 2, beside=False)
    case.losses_only = lambda: torch.zeros(2, 20)
    with pytest.raises(SystemExit, match="loss and plain torch do not agree"):
        measure(case)


def test_the_least_time_is_that_of_multiply_adds_and_exponentials() -> None:
    case = Case(200, 20, 2, beside=False)
    assert case.least_seconds((1e9, 1e8), 1) == pytest.approx(200 * 40 * (8 / 1e9 + 1 / 1e8))
    assert case.least_seconds((1e9, 1e8), 2) == pytest.approx(200 * 40 * (32 / 1e9 + 2 / 1e8))
