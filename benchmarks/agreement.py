"""Whether all programs give the same values.

They are compared with the median over all programs, element by element. So no single program is
the reference, ours least of all, and one that is wrong is found.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.program import Program

TOLERANCE = 1e-4
"""Of the largest value, or of 1 where that is less: float32, after a few hundred gates."""

NAMES = ("outputs", "gradient by inputs", "gradient by weights")


def disagreements(values: Mapping[Program, list[Any]]) -> dict[Program, str]:
    """Who differs from the median of all, and in what. A program without values has none to check.

    A shape that most do not have is a difference, too.
    """
    arrays = {
        program: [np.asarray(value) for value in own] for program, own in values.items() if own
    }
    found: dict[Program, str] = {}
    for position, name in enumerate(NAMES):
        column = {program: own[position] for program, own in arrays.items()}
        shapes = [array.shape for array in column.values()]
        for program, array in column.items():
            if array.shape != statistics.mode(shapes):
                found.setdefault(program, f"wrong: {name} of shape {array.shape}")
        column = {program: array for program, array in column.items() if program not in found}
        found |= _distant(name, column)
    return found


def _distant(name: str, column: Mapping[Program, NDArray]) -> dict[Program, str]:
    if not column:
        return {}
    median = np.nanmedian(np.stack(list(column.values())), axis=0)
    allowed = TOLERANCE * max(1.0, float(np.abs(median).max(initial=0.0)))
    distances = {
        program: float(np.abs(array - median).max(initial=0.0)) for program, array in column.items()
    }
    return {
        program: f"wrong: {name} differ from the others' by {distance:.2g}"
        for program, distance in distances.items()
        if not distance <= allowed  # NaN is a difference.
    }
