"""Estimates with their uncertainty. Every standard error of a loss comes from here."""

from quantum_hybrid.evaluation.statistics.crossed import (
    CrossedDifference,
    MeanSquares,
    MultiBootstrap,
    OverSeeds,
)
from quantum_hybrid.evaluation.statistics.means import MeanEstimate, mean_over_units
from quantum_hybrid.evaluation.statistics.planning import (
    power_to_equate,
    power_to_tell,
    seeds_needed,
)

__all__ = [
    "CrossedDifference",
    "MeanEstimate",
    "MeanSquares",
    "MultiBootstrap",
    "OverSeeds",
    "mean_over_units",
    "power_to_equate",
    "power_to_tell",
    "seeds_needed",
]
