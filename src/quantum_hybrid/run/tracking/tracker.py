"""The interface of all trackers, and a tracker that forwards to several others.

A tracker takes a step and a mapping from metric names (`train/hybrid_loss`) to numbers. Every
tracker refuses NaN and infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from quantum_hybrid.errors import TrainingError


class Tracker(Protocol):
    """Records the metrics of a run as they are measured."""

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        """Record the metrics of a training step; several calls may share a step.

        `time_s` is the time of measurement in seconds since 1970; None means now. Raises
        `TrainingError` and records nothing if a metric is NaN or infinite.
        """

    def close(self) -> None:
        """Finish writing. It may be called twice."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        checked = finite(step, metrics)
        for tracker in self._trackers:
            tracker.log(step, checked, time_s)

    def close(self) -> None:
        """Close all trackers in order, even if one fails, then raise the failure."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.close)


def replay(rows: Sequence[Mapping[str, Any]], tracker: Tracker) -> None:
    """Log the rows of a metrics.jsonl again, with their recorded times."""
    for row in rows:
        metrics = {name: value for name, value in row.items() if name not in ("step", "time_s")}
        tracker.log(row["step"], metrics, row["time_s"])


def finite(step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics as floats; `TrainingError` if one is NaN or infinite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} is {float(value)} at step {step}: training has diverged; start a new run "
                "with a lower `learning_rate`"
            )
    return {name: float(value) for name, value in metrics.items()}
