"""The table at the end of a study: per rival a verdict, with the interval in nats per token.

And that of a scaling: per shape the loss of each arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantum_hybrid.report.study_page import verdict_sentence
from quantum_hybrid.report.study_results import ComparedRival, RegimeResults, StudyResults

CAUTION = "This study is too small to prove anything: it shows what a study does."


def study_lines(results: StudyResults) -> list[str]:
    """The table of each regime, and what it says."""
    lines = []
    for regime in results.regimes:
        lines += ["", *_table(results, regime)]
    margin = results.plan["margin"]
    lines += [
        "",
        f"Rival minus {results.subject}, held out, nats per token: positive if the circuit is",
        f"better. Equivalent: within {margin:g} of each other. Holm over the rivals of a regime.",
        *results.notes,
        *(["", verdict_sentence(results)] if any(one.compared for one in results.regimes) else []),
    ]
    return [*lines, *([CAUTION] if results.is_quick else [])]


def _table(results: StudyResults, regime: RegimeResults) -> list[str]:
    losses = {arm: own.mean for arm, own in regime.losses.items()}
    head = f"{regime.name + ', rival':18}{'loss':>9}{'difference':>12}{'95 % interval':>22}"
    subject = _figure(losses.get(results.subject))
    rows = [head + f"  {results.subject} is", f"{results.subject:18}{subject:>9}"]
    return rows + [_row(one, losses.get(one.rival)) for one in regime.compared]


def _row(one: ComparedRival, loss: float | None) -> str:
    difference = "-" if one.difference is None else f"{one.difference:+.4f}"
    interval = "" if one.low is None else f"{one.low:+.4f} to {one.high:+.4f}"
    seeds = ""
    if one.verdict == "inconclusive":
        enough = "more prompts" if one.seeds_needed is None else f"{one.seeds_needed} seeds"
        seeds = f" ({enough} would settle it)"
    return f"{one.rival:18}{_figure(loss):>9}{difference:>12}{interval:>22}  {one.verdict}{seeds}"


def _figure(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def scaling_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of all shapes."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = [f"{'qubits':>6}{'layers':>8}" + "".join(f"{arm:>24}" for arm in arms)]
    shapes = sorted({(row["n_layers"], row["n_qubits"]) for row in rows})
    of_shape = {(row["n_layers"], row["n_qubits"], row["arm"]): row for row in rows}
    for n_layers, n in shapes:
        cells = [_cell(of_shape[n_layers, n, arm]) for arm in arms]
        lines.append(f"{n:>6}{n_layers:>8}" + "".join(f"{cell:>24}" for cell in cells))
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    if row["loss"] is None:
        return "diverged"
    return f"{row['loss']:.4f} +- {row['standard_error']:.4f}"
