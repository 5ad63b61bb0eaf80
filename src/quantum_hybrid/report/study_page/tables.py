"""Every number of a study as CSV files, for other programs: full precision, empty where missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.report.study_results import ArmFacts, ArmUse, StudyResults

_COMPARED = ("verdict", "difference", "low", "high", "p_different", "p_within")
_COMPARED += ("p_t", "p_wilcoxon", "low_elsewhere", "high_elsewhere", "seeds_needed")
_TUNED = ("validation_loss", "wide_loss", "n_trials", "n_diverged")
_SCALING = ("arm", "n_qubits", "n_layers", "loss", "standard_error", "multiply_adds")
_INSTRUMENT = ("planted", "n_studies", "told_apart", "equivalent", "covered", "mean_difference")

Table = tuple[Sequence[str], list[list[Any]]]
"""Columns and rows."""


def write_study_tables(results: StudyResults, folder: Path) -> list[Path]:
    """Write the tables into the folder, which is made if need be, and return their paths.

    Each file is replaced atomically. A table without rows has its header only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (columns, rows) in _tables(results).items():
        path = folder / f"{name}.csv"
        write_bytes(path, _csv(columns, rows))
        written.append(path)
    return written


def _tables(results: StudyResults) -> dict[str, Table]:
    """Name of a table -> its columns and rows."""
    return {
        "arms": _arms(results),
        "comparisons": _comparisons(results),
        "losses": _losses(results),
        "tuning": _tuning(results),
        "uses": _uses(results),
        "curves": _curves(results),
        "scaling": (_SCALING, _rows_of(results.scaling, _SCALING)),
        "instrument": (_INSTRUMENT, _rows_of(results.instrument, _INSTRUMENT)),
    }


def _arms(results: StudyResults) -> Table:
    columns = [field.name for field in fields(ArmFacts)]
    return columns, [[getattr(arm, name) for name in columns] for arm in results.arms]


def _comparisons(results: StudyResults) -> Table:
    compared = [(regime.name, rival) for regime in results.regimes for rival in regime.compared]
    components = list(dict.fromkeys(name for _, one in compared for name in one.variances or {}))
    columns = ["regime", "rival", *_COMPARED, *(f"variance_{name}" for name in components)]
    return columns, [
        [regime, one.rival, *(getattr(one, name) for name in _COMPARED)]
        + [(one.variances or {}).get(name) for name in components]
        for regime, one in compared
    ]


def _losses(results: StudyResults) -> Table:
    return ["regime", "arm", "seed", "loss_nats_per_token"], [
        [regime.name, arm, seed, loss]
        for regime in results.regimes
        for arm, found in regime.losses.items()
        for seed, loss in found.of_seeds.items()
    ]


def _tuning(results: StudyResults) -> Table:
    columns = ["regime", "arm", *_TUNED, "setting", "value"]
    return columns, [
        [regime.name, arm, *(getattr(found, name) for name in _TUNED), setting, value]
        for regime in results.regimes
        for arm, found in regime.tuned.items()
        for setting, value in found.settings.items()
    ]


def _uses(results: StudyResults) -> Table:
    columns = [field.name for field in fields(ArmUse)]
    return ["regime", "arm", *columns], [
        [regime.name, arm, *(getattr(use, name) for name in columns)]
        for regime in results.regimes
        for arm, use in regime.uses.items()
    ]


def _curves(results: StudyResults) -> Table:
    return ["regime", "arm", "tokens", "loss_nats_per_token"], [
        [regime.name, arm, tokens, loss]
        for regime in results.regimes
        for arm, found in regime.curves.items()
        for tokens, loss in zip(regime.curve_tokens, found, strict=False)
    ]


def _rows_of(found: Any, columns: Sequence[str]) -> list[list[Any]]:
    return [] if found is None else [[row[name] for name in columns] for row in found["rows"]]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    # A name may hold half a character, which is not valid UTF-8.
    return file.getvalue().encode("utf-8", "replace")
