"""One kept run of a benchmark, from its JSON file to lines of text.

A file is named DATE-BENCHMARK[-WHAT].json and holds one object with the fields of `REQUIRED`.
`commit_is` says which commit `commit` is: `code`, the one that was measured, or `record`, the one
that entered the figures into docs/log.md, where the log does not name the measured one. Both are
null where neither is known. Lists of objects, `rows` among them, are tables; everything else is
printed as a line.

Numbers are read as decimals, so a figure is printed with the digits that it was measured with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
REQUIRED = ("benchmark", "date", "command", "commit", "commit_is", "machine", "rows")
COMMIT_IS = ("code", "record", None)


class RecordError(ValueError):
    """A file is not the record of a run; the message names it."""


@dataclass(frozen=True)
class Record:
    """One run, as its file has it."""

    path: Path
    fields: dict[str, Any]

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The fields that are lists of objects."""
        return {name: value for name, value in self.fields.items() if isinstance(value, list)}


def read(path: Path) -> Record:
    """Read one file.

    Raises:
        RecordError: it is unreadable, no JSON object, or lacks a field.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise RecordError(f"{path}: not a JSON object")
    if missing := [name for name in REQUIRED if name not in found]:
        raise RecordError(f"{path}: without {', '.join(missing)}")
    if found["commit_is"] not in COMMIT_IS or (found["commit"] is None) != (
        found["commit_is"] is None
    ):
        raise RecordError(f"{path}: commit_is {found['commit_is']!r}; allowed: code, record, null")
    for name in ("rows", *(name for name in found if isinstance(found[name], list))):
        _check_table(path, name, found[name])
    return Record(path, found)


def lines(record: Record) -> list[str]:
    """The run as text: its name, a line for each fact, a table for each list."""
    found = [record.path.name]
    found += [
        f"  {name}: {_text(value)}"
        for name, value in record.fields.items()
        if name not in record.tables
    ]
    for name, rows in record.tables.items():
        found += ["", f"  {name}", *(f"    {line}" for line in _table(rows))]
    return found


def _check_table(path: Path, name: str, rows: Any) -> None:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{path}: {name} is not a list of objects")


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Columns in the order in which the rows name them; numbers to the right, text to the left."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_text(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    is_text = [any(isinstance(row.get(name), str) for row in rows) for name in columns]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in cells
    ]


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
