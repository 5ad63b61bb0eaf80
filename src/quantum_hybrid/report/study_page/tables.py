"""Every number of a study as CSV files, for other programs: full precision, empty where missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.report.study_results import StudyResults

_COMPARED = ("verdict", "difference", "low", "high", "p_different", "p_within")
_COMPARED += ("p_t", "p_wilcoxon", "low_elsewhere", "high_elsewhere", "seeds_needed")
_SCALING = ("arm", "n_qubits", "n_layers", "loss", "standard_error", "multiply_adds")
_INSTRUMENT = ("planted", "n_studies", "told_apart", "equivalent", "covered", "mean_difference")


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


def _tables(results: StudyResults) -> dict[str, tuple[Sequence[str], list[list[Any]]]]:
    """Name of a table -> its columns and rows."""
    regimes = results.regimes
    components = list(
        dict.fromkeys(
            name
            for regime in regimes
            for rival in regime.compared
            for name in rival.variances or {}
        )
    )
    compared = [
        [regime.name, rival.rival, *(getattr(rival, name) for name in _COMPARED)]
        + [(rival.variances or {}).get(name) for name in components]
        for regime in regimes
        for rival in regime.compared
    ]
    losses = [
        [regime.name, arm, seed, loss]
        for regime in regimes
        for arm, found in regime.losses.items()
        for seed, loss in found.of_seeds.items()
    ]
    tuned = [
        [regime.name, arm, found.validation_loss, found.n_trials, found.n_diverged, setting, value]
        for regime in regimes
        for arm, found in regime.tuned.items()
        for setting, value in found.settings.items()
    ]
    linearity = [
        [regime.name, arm, share] for regime in regimes for arm, share in regime.nonlinear.items()
    ]
    curves = [
        [regime.name, arm, tokens, loss]
        for regime in regimes
        for arm, found in regime.curves.items()
        for tokens, loss in zip(regime.curve_tokens, found, strict=False)
    ]
    variances = [f"variance_{name}" for name in components]
    about_arms = [field.name for field in fields(results.arms[0])] if results.arms else ["name"]
    return {
        "arms": (about_arms, [[getattr(arm, f) for f in about_arms] for arm in results.arms]),
        "comparisons": (["regime", "rival", *_COMPARED, *variances], compared),
        "losses": (["regime", "arm", "seed", "loss_nats_per_token"], losses),
        "tuning": (
            ["regime", "arm", "validation_loss", "n_trials", "n_diverged", "setting", "value"],
            tuned,
        ),
        "linearity": (["regime", "arm", "nonlinear_share"], linearity),
        "curves": (["regime", "arm", "tokens", "loss_nats_per_token"], curves),
        "scaling": (_SCALING, _rows_of(results.scaling, _SCALING)),
        "instrument": (_INSTRUMENT, _rows_of(results.instrument, _INSTRUMENT)),
    }


def _rows_of(found: Any, columns: Sequence[str]) -> list[list[Any]]:
    return [] if found is None else [[row[name] for name in columns] for row in found["rows"]]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    # A name may hold half a character, which is not valid UTF-8.
    return file.getvalue().encode("utf-8", "replace")
