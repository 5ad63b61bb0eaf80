"""`metrics.jsonl`: the record of a run's metrics, which the report reads.

Each line is one object, `{"step": 3, "time_s": 1767225600.0, "train/hybrid_loss": 4.2}`, with
`time_s` in seconds since 1970. A killed run can leave at most its last line incomplete. When a run
resumes from a checkpoint, `truncate_metrics` drops the rows logged after that checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.run.tracking.tracker import finite


class JsonlTracker:
    """Appends each call as one line of JSON, flushed before the call returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
            truncate_metrics(path, sys.maxsize)
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        when = round(time.time() if time_s is None else time_s, 3)
        row = {"step": step, "time_s": when, **finite(step, metrics)}
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()


class _Line(NamedTuple):
    text: bytes
    row: dict[str, Any]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first, without an incomplete last line.

    Raises `CheckpointError` if the file is missing or another line is not a row with a step.
    """
    return [line.row for line in _read_lines(path)]


def truncate_metrics(path: Path, last_step: int) -> int:
    """Keep the rows up to `last_step`, drop an incomplete last line, return the number of steps.

    Step 0 is not counted. The file is replaced atomically. If there is no file, because the run
    stopped before it logged anything, nothing is done. Raises `CheckpointError` if a line other
    than an incomplete last one is not a row with a step.
    """
    if not path.exists():
        return 0
    kept = [line for line in _read_lines(path) if line.row["step"] <= last_step]
    write_bytes(path, b"".join(line.text + b"\n" for line in kept))
    return len({line.row["step"] for line in kept} - {0})


def _read_lines(path: Path) -> list[_Line]:
    try:
        *complete, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    lines = [
        _Line(text, _parse_row(text, f"{path}, line {number}"))
        for number, text in enumerate(complete, start=1)
    ]
    with suppress(CheckpointError):
        # A complete row without its newline is kept; an incomplete row is dropped.
        lines.append(_Line(tail, _parse_row(tail, str(path))))
    return lines


def _parse_row(text: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise CheckpointError(f"{place}: not a line of JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise CheckpointError(f'{place}: not an object with an integer "step"')
    return row


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number a run writes")
