"""The store of teacher answers: every answer is paid for once, and outlives the run that asked.

    key = sha256 of (server, model, prompt text, sampling, index) ─► answer as JSON + its checksum

One SQLite file in WAL mode with `synchronous=FULL`: a row is on the disk when `put` returns, so a
killed process or a power cut loses no stored answer. Several processes may use the file at once.
A row whose checksum does not fit its value is treated as absent, so the answer is drawn again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from filelock import FileLock
from filelock import Timeout as LockTimeout

from quantum_hybrid.errors import QuantumHybridError, UsageError
from quantum_hybrid.records import RECORD_VERSION, Answer, Sampling

BUSY_TIMEOUT_S = 60
"""Longest wait for another process that is writing to the same file."""


def answer_key(
    *, server_identity: str, model: str, prompt_text: str, sampling: Sampling, index: int
) -> str:
    """Content address of one answer: 64 hexadecimal digits.

    The prompt's id is not part of it: the same text under another name is the same request.
    """
    parts = {
        "record_version": RECORD_VERSION,
        "server_identity": server_identity,
        "model": model,
        "prompt_text": prompt_text,
        "max_tokens": int(sampling.max_tokens),
        "temperature": float(sampling.temperature),
        "seed": int(sampling.seed),
        "top_logprobs": int(sampling.top_logprobs),
        "index": int(index),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


class AnswerCache:
    """Answers by content address, in one SQLite file.

    Raises `UsageError` naming the path if the file cannot be opened or written, or is something
    else than a database. May be used from several threads and several processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.corrupt_rows = 0
        """Rows read so far that did not fit their checksum."""
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that create the file at once: SQLite's busy timeout does not cover the
            # switch to WAL.
            with FileLock(f"{self.path}.lock", timeout=BUSY_TIMEOUT_S):
                self._connection = _open(self.path)
        except (sqlite3.Error, OSError, LockTimeout) as error:
            raise UsageError(
                f"{self.path}: cannot be opened as the cache of teacher answers ({error}); name "
                "another place, or move the file away if it is not such a cache"
            ) from error

    def get(self, key: str) -> Answer | None:
        """The stored answer, or None if there is none or its row is corrupt (then counted)."""
        try:
            with self._lock:
                row = self._connection.execute(
                    "SELECT value, checksum FROM answers WHERE key = ?", (key,)
                ).fetchone()
        except sqlite3.Error as error:
            raise QuantumHybridError(
                f"{self.path}: the cache of teacher answers cannot be read ({error})"
            ) from error
        if row is None:
            return None
        answer = _decode(*row)
        if answer is None:
            self.corrupt_rows += 1
        return answer

    def put(self, key: str, answer: Answer) -> None:
        """Store the answer, replacing what stands under its key; on disk when this returns."""
        value = json.dumps(asdict(answer), separators=(",", ":"), allow_nan=False).encode("ascii")
        checksum = hashlib.sha256(value).hexdigest()
        try:
            with self._lock:
                self._connection.execute(
                    "INSERT OR REPLACE INTO answers (key, value, checksum) VALUES (?, ?, ?)",
                    (key, value, checksum),
                )
        except sqlite3.Error as error:
            raise QuantumHybridError(
                f"{self.path}: a teacher answer cannot be stored ({error}); answers stored before "
                "are kept, so make room or mend the place and run again"
            ) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _open(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode whose every write is synchronous."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = bytes  # a damaged row must not fail to decode
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's own cache
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum TEXT NOT NULL)"
        )
        connection.execute("BEGIN IMMEDIATE")  # a read-only file is found now, not after paying
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _decode(value: object, checksum: object) -> Answer | None:
    """The answer of a row, or None if the row is not what `put` wrote."""
    if not isinstance(value, bytes) or not isinstance(checksum, bytes):
        return None
    if hashlib.sha256(value).hexdigest().encode("ascii") != checksum:
        return None
    try:
        return Answer.from_fields(json.loads(value))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
