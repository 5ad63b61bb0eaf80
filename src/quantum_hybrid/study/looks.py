"""When held-out texts were looked at, by any study of this user.

A study opens its held-out part once, when all fits are done. A look that was interrupted goes on. A
second one, by this study or by another with some of the same units, is counted. The record of all
studies is in the cache folder: of each held-out part a list of its units, and its looks.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.paths import cache_directory
from quantum_hybrid.study.folder import StudyFolder


class Looks:
    """The looks at the held-out units of one study."""

    def __init__(self, study: StudyFolder, units: Sequence[str]) -> None:
        """units: the SHA-256 of each held-out unit."""
        self._study, self._units = study, units
        self._own = study.path / "looks.jsonl"
        self._folder = cache_directory() / "looks"
        self._digest = hashlib.sha256("".join(units).encode("ascii")).hexdigest()

    def begin(self) -> None:
        """Record that the held-out part is opened, unless an earlier look has not ended."""
        if not (own := _lines(self._own)) or own[-1]["event"] == "ended":
            self._append("opened")

    def end(self) -> None:
        """Record that all held-out losses have been computed."""
        if (own := _lines(self._own)) and own[-1]["event"] == "opened":
            self._append("ended")

    def opened(self) -> list[Mapping[str, Any]]:
        """All looks at some of these units; `n_units` says at how many."""
        # The cache may have been cleared since, or the study have come from another machine.
        rows = [
            *self._everywhere(),
            *(row | {"n_units": len(self._units)} for row in _lines(self._own)),
        ]
        found = {(row["time"], row["study"]): row for row in rows if row["event"] == "opened"}
        return sorted(found.values(), key=lambda row: row["time"])

    def _everywhere(self) -> Iterator[Mapping[str, Any]]:
        """The rows of all held-out parts that share units with this one."""
        own = set(self._units)
        for file in sorted(self._folder.glob("*.json")):
            try:
                shared = own.intersection(json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise CheckpointError(f"{file}: not a record of looks") from error
            if shared:
                for row in _lines(file.with_suffix(".jsonl")):
                    yield row | {"n_units": len(shared)}

    def _append(self, event: str) -> None:
        row = {
            "event": event,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "study": str(self._study.path.absolute()),
            "plan": self._study.plan.digest,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (units := self._folder / f"{self._digest}.json").exists():
            write_json(units, list(self._units))
        for file in (self._folder / f"{self._digest}.jsonl", self._own):
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                os.fsync(lines.fileno())


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{file}: not a record of looks") from error
