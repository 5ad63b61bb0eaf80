"""Means with their uncertainty: from figures of rows or runs to a mean, its error, its interval.

Rows that share a unit are not independent: tokens of one answer, answers of one prompt. The units
are answers within a run, or seeds over runs. Every standard error of a loss comes from here; the
circuit's own diagnostics estimate other quantities and have their errors beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor


@dataclass(frozen=True)
class MeanEstimate:
    """A mean over rows that come in independent units."""

    mean: float
    standard_error: float | None
    """None for a single unit."""
    n_units: int

    def half_width(self, level: float = 0.95) -> float | None:
        """Half the two-sided confidence interval: Student's t quantile times the standard error.

        The t distribution has n_units - 1 degrees of freedom. None for a single unit.
        """
        if self.standard_error is None:
            return None
        return float(stdtrit(self.n_units - 1, (1 + level) / 2)) * self.standard_error


def mean_over_units(
    values: Float[Tensor, " rows"], units: Int[Tensor, " rows"] | None = None
) -> MeanEstimate:
    """The mean of `values` over rows; `units` numbers each row's unit, by default its own.

    The standard error is the linearised ratio estimator over m units (Cochran 1977, section 6.3):

        sqrt(m / (m - 1) sum_i (sum of unit i - mean * rows of unit i)^2) / rows

    With one row a unit it is s / sqrt(m).
    """
    values = values.double()
    if units is None:
        units = torch.arange(len(values))
    names, unit = units.unique(return_inverse=True)
    n_units, mean = len(names), values.mean()
    if n_units == 1:
        return MeanEstimate(mean.item(), None, 1)
    deviations = torch.zeros(n_units, dtype=torch.float64).index_add_(0, unit, values - mean)
    scale = math.sqrt(n_units / (n_units - 1) * deviations.square().sum().item())
    return MeanEstimate(mean.item(), scale / len(values), n_units)
