"""The units that a seed sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantum_hybrid.study.fits.sampling import half_sample


@pytest.mark.parametrize("n_units", [2, 7, 100])
def test_half_of_the_units_are_there_once(n_units) -> None:
    found = half_sample(n_units, torch.Generator().manual_seed(0)).tolist()
    assert len(found) == n_units // 2
    assert sorted(set(found)) == found
    assert set(found) <= set(range(n_units))


def test_its_mean_varies_as_that_of_a_new_text() -> None:
    """Which is what the spread over seeds stands for: the variance of the mean of all units."""
    n_units, generator = 400, torch.Generator().manual_seed(1)
    units = torch.randn(n_units, generator=generator)
    means = [float(units[half_sample(n_units, generator)].mean()) for _ in range(4000)]
    assert np.var(means) == pytest.approx(float(units.var()) / n_units, rel=0.1)
