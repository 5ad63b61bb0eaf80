"""When held-out texts were looked at, by any study of this user.

A study opens its held-out part once, when all fits are done. A look that was interrupted goes on. A
second one, by this study or by another on the same texts, is counted. The record of all studies is
in the cache folder, by the SHA-256 of the texts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.paths import cache_directory
from quantum_hybrid.study.folder import StudyFolder


class Looks:
    """The looks at the held-out texts of one study."""

    def __init__(self, study: StudyFolder, held_out_digest: str) -> None:
        self._study = study
        self._own = study.path / "looks.jsonl"
        self._all = cache_directory() / "looks" / f"{held_out_digest}.jsonl"

    def begin(self) -> None:
        """Record that the held-out part is opened, unless an earlier look has not ended."""
        if not (own := _lines(self._own)) or own[-1]["event"] == "ended":
            self._append("opened")

    def end(self) -> None:
        """Record that all held-out losses have been computed."""
        if (own := _lines(self._own)) and own[-1]["event"] == "opened":
            self._append("ended")

    def opened(self) -> list[Mapping[str, str]]:
        """All looks at these texts."""
        # The cache may have been cleared since, or the study have come from another machine.
        rows = [*_lines(self._all), *_lines(self._own)]
        found = {(row["time"], row["study"]): row for row in rows if row["event"] == "opened"}
        return sorted(found.values(), key=lambda row: row["time"])

    def _append(self, event: str) -> None:
        row = {
            "event": event,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "study": str(self._study.path.absolute()),
            "plan": self._study.plan.digest,
        }
        self._all.parent.mkdir(parents=True, exist_ok=True)
        for file in (self._all, self._own):
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                os.fsync(lines.fileno())


def _lines(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{file}: not a record of looks") from error
