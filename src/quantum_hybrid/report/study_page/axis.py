"""Axes: which numbers are shown, where they lie between 0 and 1, and where ticks stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FAR = 3
"""A value this many times further out than the next one inwards is far, and left off an axis."""


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high`."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; beyond them for numbers that are off the axis."""
        return (value - self.low) / (self.high - self.low)

    def clipped(self, value: float) -> float:
        """The place, or the end that is nearer."""
        return min(max(self.place(value), 0.0), 1.0)

    def holds(self, value: float) -> bool:
        """Whether the number is on the axis."""
        return self.low <= value <= self.high

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers on the axis, about that many."""
        raw = (self.high - self.low) / about
        unit = 10 ** math.floor(math.log10(raw))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


class LogAxis(Axis):
    """The same on a logarithmic scale; `low` is above 0."""

    def place(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)


def axis_around(values: Sequence[float], room: float = 0.06) -> Axis:
    """An axis with all these numbers, and room beyond them at either end."""
    low, high = min(values), max(values)
    spread = (high - low) or max(abs(high), 1.0) * 0.1
    return Axis(low - room * spread, high + room * spread)


def reach(distances: Sequence[float], at_least: float = 0.0) -> float:
    """The largest of these distances that is not far, and no less than `at_least`.

    The median of the distances is never far.
    """
    finite = [distance for distance in distances if math.isfinite(distance)]
    if not finite:
        return at_least
    reached = max(at_least, median(finite))
    for distance in sorted(finite):
        if reached < distance <= FAR * reached:
            reached = distance
    return reached
