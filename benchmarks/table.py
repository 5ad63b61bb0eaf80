"""The results as a table for people, and as a record for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.goals import Goal
from benchmarks.measurement import Result
from benchmarks.roster import MATMUL

HEADER = f"{'qubits,layers,batch':<20}{'program':<26}{'median ms':>11}{'x ours':>9}{'peak MiB':>10}"


def lines(results: Sequence[Result]) -> list[str]:
    """A line for each result; one that failed gives its reason."""
    return [_line(result) for result in results]


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    """A line for each goal."""
    return [_goal_line(goal) for goal in goals]


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same results, for JSON."""
    return [_row(result) for result in results]


def goal_rows(goals: Sequence[Goal]) -> list[dict[str, Any]]:
    """The same goals, for JSON."""
    return [
        {"goal": goal.text, "at_least": goal.target, "figure": goal.figure, "met": goal.met}
        for goal in goals
    ]


def _line(result: Result) -> str:
    start = f"{result.size!s:<20}{result.program:<26}"
    if result.failure is not None:
        return f"{start}  {result.failure}"
    times = _ratio(result)
    peak = "-" if result.peak_bytes is None else f"{result.peak_bytes / 2**20:.1f}"
    note = "  (one run)" if len(result.seconds) == 1 else ""
    ratio_text = "-" if times is None else f"{times:.2f}"
    return f"{start}{1000 * result.median_seconds:>11.3f}{ratio_text:>9}{peak:>10}{note}"


def _row(result: Result) -> dict[str, Any]:
    measured = bool(result.seconds)
    times = _ratio(result)
    return {
        "n_qubits": result.size.n_qubits,
        "n_layers": result.size.n_layers,
        "batch": result.size.batch,
        "program": result.program,
        "median_ms": _digits(1000 * result.median_seconds) if measured else None,
        "rounds": len(result.seconds),
        "first_run_only": result.once,
        "times_ours": None if times is None else _digits(times),
        "peak_bytes": result.peak_bytes,
        "failure": result.failure,
    }


def _ratio(result: Result) -> float | None:
    return None if result.program == MATMUL.name else result.ratio


def _goal_line(goal: Goal) -> str:
    verdict = {True: "met", False: "missed", None: "not measured"}[goal.met]
    figure = "-" if goal.figure is None else f"{goal.figure:.3g}"
    return f"{goal.text:<50} at least {goal.target:<6g}{figure:>8}  {verdict}"


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
