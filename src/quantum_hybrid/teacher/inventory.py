"""List, check, export and clean up the cache: `quantum-hybrid cache ls | verify | export | gc`.

Models and servers wrote the stored text, so it is cleaned before it is shown, and exported as ASCII
JSON. `gc` removes only rows that no run can use.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantum_hybrid.errors import QuantumHybridError, UsageError
from quantum_hybrid.shown import shown
from quantum_hybrid.teacher.cache import AnswerCache, decode
from quantum_hybrid.text.records import RECORD_VERSION, Answer

_BEFORE = "(stored before servers were recorded)"


@dataclass(frozen=True)
class StoredRow:
    """One row of the cache, decoded."""

    key: str
    request: dict[str, Any] | None
    """The request; None in rows of schema 1 and in damaged rows."""
    answer: Answer | None
    """The answer; None if the row is damaged."""
    n_bytes: int
    stored_at: float | None
    """Seconds since 1970."""

    @property
    def is_usable(self) -> bool:
        """Whether a run can still use its text."""
        return self.answer is not None and self.answer.text != "" and not self._is_outdated

    @property
    def _is_outdated(self) -> bool:
        return self.request is not None and self.request["record_version"] != RECORD_VERSION

    @property
    def written_by(self) -> tuple[str, str]:
        """(server, model), as requested."""
        if self.request is None:
            return _BEFORE, self.answer.model if self.answer else "?"
        return self.request["server_identity"], self.request["model"]

    def problem(self) -> str:
        """Why the row is not usable."""
        if self.answer is None:
            return "damaged"
        return "of an older format" if self._is_outdated else "without text"


@dataclass
class _Sum:
    answers: int = 0
    n_bytes: int = 0
    last: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)


def list_answers(cache: AnswerCache) -> list[str]:
    """A table with one line per server and model: answers, size and time of the last one."""
    sums: dict[tuple[str, str], _Sum] = {}
    for row in stored_rows(cache):
        total = sums.setdefault(row.written_by, _Sum())
        total.answers += row.is_usable
        total.n_bytes += row.n_bytes
        total.last = max(total.last, row.stored_at or 0.0)
        if not row.is_usable:
            total.problems[row.problem()] += 1
    if not sums:
        return [f"{cache.path}: no answers"]
    lines = [f"{'answers':>9} {'MB':>8}  {'last stored':16}  model, server"]
    for (server, model), total in sorted(sums.items()):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(total.last)) if total.last else "-"
        notes = "".join(f"; {n} {what}" for what, n in sorted(total.problems.items()))
        name = shown(f"{model}, {server}")
        lines.append(f"{total.answers:9} {total.n_bytes / 1e6:8.2f}  {when:16}  {name}{notes}")
    return [*lines, f"in {cache.path}"]


def verify_answers(cache: AnswerCache) -> list[str]:
    """Check the file with SQLite, and every row against its checksum and its key.

    Raises `QuantumHybridError` if anything is damaged.
    """
    faults = cache.integrity_faults()
    if faults:
        raise QuantumHybridError(
            f"{cache.path}: the file is damaged ({shown(faults[0])}); save what can be read "
            "with `quantum-hybrid cache export`, then move the file away"
        )
    rows = damaged = 0
    for row in stored_rows(cache):
        rows += 1
        damaged += row.answer is None
    if damaged:
        raise QuantumHybridError(
            f"{cache.path}: {damaged} of {rows} answers are damaged; a run asks for them again, "
            "`quantum-hybrid cache gc` removes them"
        )
    return [f"{cache.path}: all {rows} answers are as they were stored"]


def export_answers(cache: AnswerCache, target: Path) -> list[str]:
    """Write every undamaged answer with its request as one line of JSON to a new file.

    Raises `UsageError` if the file exists or cannot be written.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    count = 0
    try:
        if target.exists():
            raise UsageError(f"{target}: exists; name a new file")
        with temporary.open("w", encoding="ascii") as file:
            for row in stored_rows(cache):
                if row.answer is not None:
                    line = {"key": row.key, "request": row.request, "answer": asdict(row.answer)}
                    file.write(json.dumps(line | {"stored_at": row.stored_at}) + "\n")
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from error
    return [f"{target}: {count} answers"]


def collect_garbage(cache: AnswerCache, *, only_tell: bool) -> list[str]:
    """Remove rows that no run can use and shrink the file; with `only_tell`, only count them."""
    useless = [row for row in stored_rows(cache) if not row.is_usable]
    counts = Counter(row.problem() for row in useless)
    what = ", ".join(f"{n} {problem}" for problem, n in sorted(counts.items())) or "nothing"
    if only_tell:
        return [f"{cache.path}: would remove {what}"]
    before = cache.path.stat().st_size
    # `remove` checks each row again under the write lock: a run may have replaced it meanwhile.
    cache.remove([row.key for row in useless], lambda row: not _stored_row(row).is_usable)
    freed = before - cache.path.stat().st_size
    return [f"{cache.path}: removed {what}; {freed / 1e6:.2f} MB freed"]


def stored_rows(cache: AnswerCache) -> Iterator[StoredRow]:
    """Every row, including damaged ones."""
    return map(_stored_row, cache.rows())


def _stored_row(row: tuple[Any, ...]) -> StoredRow:
    key, value, checksum, request, stored_at = row
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
    answer = decode(text, value, checksum, request)
    return StoredRow(
        key=text,
        request=json.loads(request) if answer is not None and request is not None else None,
        answer=answer,
        n_bytes=sum(len(part) for part in (value, request) if isinstance(part, bytes)),
        stored_at=stored_at if isinstance(stored_at, float) else None,
    )
