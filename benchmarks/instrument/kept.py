"""What is done, kept in a file of lines: pilot means and outcomes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.instrument.cases import Case, Outcome
from quantum_hybrid.run.provenance import git_commit


class Kept:
    """Lines of what is done: pilot means and outcomes."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Raises `SystemExit` for a file of other settings."""
        self._path = path
        self.commit = git_commit()
        """Of the program that began the file."""
        self.pilots: dict[float, float] = {}
        self.outcomes: list[Outcome] = []
        if not path.exists():
            self._append({"settings": settings, "commit": self.commit})
            return
        whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n")
        if torn:  # By a kill.
            path.write_text(f"{whole}\n", encoding="utf-8")
        first, *lines = map(json.loads, whole.splitlines())
        self.commit = first["commit"]
        if first["settings"] != json.loads(json.dumps(settings)):
            raise SystemExit(f"{path}: of other settings; name another file with --kept")
        for line in lines:
            if "pilot" in line:
                self.pilots[line["kappa"]] = line["pilot"]
            else:
                self.outcomes += map(_outcome, line["outcomes"])

    def add_pilot(self, kappa: float, difference: float) -> None:
        """The mean difference of the pilot studies at a kappa."""
        self.pilots[kappa] = difference
        self._append({"kappa": kappa, "pilot": difference})

    def add(self, found: list[Outcome]) -> None:
        """The outcomes of one study and its parts."""
        self.outcomes += found
        self._append({"outcomes": [asdict(one) for one in found]})

    def of(self, case: Case, layout: tuple[int, int]) -> list[Outcome]:
        """All of a case and layout."""
        return [one for one in self.outcomes if (one.case, one.layout) == (case.name, layout)]

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _outcome(kept: dict[str, Any]) -> Outcome:
    kept["mean_squares"] = tuple(kept["mean_squares"])
    return Outcome(**kept)
