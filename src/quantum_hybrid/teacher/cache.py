"""The cache of the teacher's answers: every answer is paid for once, and all runs share it.

    AnswerRequest.key ─► request and answer as JSON, with one checksum over both

An answer's log-probabilities follow its JSON after a zero byte, in the format of `packing`. Storing
rounds them. `put` returns the rounded values, so that a run and its repetition from the cache see
the same ones.

The cache is one SQLite file in WAL mode with `synchronous=FULL`. A row is on the disk when `put`
returns, so a killed process, a power cut or a full disk loses no stored answer. SQLite is designed
and tested for these three cases (sqlite.org/testing.html).

Several processes may use the file at once. The first answer stored under a key is final: a process
that requested the same answer meanwhile receives the stored one, so two runs see the same text. A
row that fails its checksum counts as absent, and the answer is requested again.

`quantum-hybrid cache` lists, checks, exports and cleans up the rows (`inventory`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from quantum_hybrid.errors import QuantumHybridError, UsageError, WriteError
from quantum_hybrid.paths import cache_directory
from quantum_hybrid.teacher.packing import pack, unpack
from quantum_hybrid.teacher.request import AnswerRequest
from quantum_hybrid.text.records import Answer

ROOM_BYTES = 16 * 2**20
"""Free disk space required before a request: more than all answers in flight take."""
BUSY_TIMEOUT_S = 60
"""Longest wait for another process that writes to the same file."""
SCHEMA = 4
"""Version of the tables. Rows of earlier versions stay valid. Schema 1 stored no requests, 2 stored
log-probabilities as JSON, 3 stored none of the sampled token itself and none without token ids."""


def answers_path() -> Path:
    """Path of the cache that all runs share."""
    return cache_directory() / "answers.sqlite"


class AnswerCache:
    """Answers by content address, in one SQLite file.

    It may be used from several threads and processes. The constructor raises `UsageError` if the
    file cannot be opened or written, or is not a database.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._corrupt: set[str] = set()
        self._lock = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two processes may create the file at once, and SQLite's busy timeout does not cover
            # the switch to WAL.
            with FileLock(f"{self.path}.lock", timeout=BUSY_TIMEOUT_S):
                self._connection = _open(self.path)
        except (sqlite3.Error, OSError, LockTimeout) as error:
            raise UsageError(
                f"{self.path}: cannot be opened as the cache of teacher answers ({error}); name "
                "another place in QUANTUM_HYBRID_CACHE, or move the file away if it is not such a "
                "cache"
            ) from error

    def get(self, request: AnswerRequest) -> Answer | None:
        """The stored answer; None if there is none or its row is corrupt, which is counted."""
        with self._reading() as connection:
            row = connection.execute(_SELECT, (request.key,)).fetchone()
        if row is None:
            return None
        answer = decode(request.key, *row)
        if answer is None:
            self._corrupt.add(request.key)
        return answer

    @property
    def corrupt_rows(self) -> int:
        """Number of rows read so far that failed their checksum."""
        return len(self._corrupt)

    def require_room(self) -> None:
        """Raise `WriteError` if the disk may have no room for an answer that is requested now.

        Call it before each request, so that no answer is paid for and then lost.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < ROOM_BYTES:
            raise WriteError(
                f"{self.path}: {free >> 20} MiB are free on its disk, and {ROOM_BYTES >> 20} are "
                "needed before a request is sent; free some space, or name another folder in "
                "QUANTUM_HYBRID_CACHE, and resume"
            )

    def put(self, pairs: Sequence[tuple[AnswerRequest, Answer]]) -> list[Answer]:
        """Store answers in one transaction; they are on disk when this returns.

        Returns for each request the answer that `get` will return: the one stored first.
        """
        with self._writing() as connection:
            return [_put(connection, request, answer) for request, answer in pairs]

    def remember_model(self, server_identity: str, model: str) -> None:
        """Store the name of the only model that a server offers."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO only_models VALUES (?, ?)", (server_identity, model)
            )

    def remembered_model(self, server_identity: str) -> str | None:
        """The only model that the server offered when it was last asked; None if not stored."""
        query = "SELECT model FROM only_models WHERE server_identity = ?"
        with self._reading() as connection:
            row = connection.execute(query, (server_identity,)).fetchone()
        return None if row is None else row[0].decode("utf-8")

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Every raw row (key, value, checksum, request, stored_at)."""
        with self._reading() as connection:
            yield from connection.execute(_ROWS)

    def remove(self, keys: Sequence[str], is_useless: Callable[[tuple[Any, ...]], bool]) -> None:
        """Remove the rows of these keys that are still useless, and shrink the file."""
        with self._writing() as connection:
            for key in keys:
                row = connection.execute(f"{_ROWS} WHERE key = ?", (key,)).fetchone()
                if row is not None and is_useless(row):
                    connection.execute("DELETE FROM answers WHERE key = ?", (key,))
        with self._reading() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def integrity_faults(self) -> list[str]:
        """Messages of SQLite's integrity check; empty for a sound file."""
        with self._reading() as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        lines = [line.decode("utf-8", "replace") for (line,) in found]
        return [line for line in lines if line != "ok"]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._connection
        except sqlite3.Error as error:
            raise QuantumHybridError(
                f"{self.path}: the cache of teacher answers cannot be read ({error})"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: it is stored completely or not at all."""
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:  # SQLite itself rolls back on some errors.
                        self._connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise QuantumHybridError(
                f"{self.path}: a teacher answer cannot be stored ({error}); answers stored before "
                "are kept: free some space or repair the folder, and run again"
            ) from error

    def close(self) -> None:
        """Close the file. It may be called twice."""
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


_ROWS = "SELECT key, value, checksum, request, stored_at FROM answers"
_SELECT = "SELECT value, checksum, request FROM answers WHERE key = ?"


def _open(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; every write is synchronous."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = bytes  # Decoding a damaged row must not raise.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: flush the drive's own cache too.
        connection.execute("BEGIN IMMEDIATE")  # Detect a read-only file before paying for answers.
        _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to `SCHEMA`, keeping every row."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise sqlite3.DatabaseError(f"a newer version of this program made it, schema {version}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS answers "
        "(key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum TEXT NOT NULL)"
    )
    if version < 2:
        connection.execute("ALTER TABLE answers ADD COLUMN request BLOB")
        connection.execute("ALTER TABLE answers ADD COLUMN stored_at REAL")
        connection.execute(
            "CREATE TABLE only_models (server_identity TEXT PRIMARY KEY, model TEXT NOT NULL)"
        )
    if version < SCHEMA:
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _put(connection: sqlite3.Connection, request: AnswerRequest, answer: Answer) -> Answer:
    row = connection.execute(_SELECT, (request.key,)).fetchone()
    standing = None if row is None else decode(request.key, *row)
    if standing is not None:
        return standing
    value = _encoded(answer)
    connection.execute(
        "INSERT OR REPLACE INTO answers (key, value, checksum, request, stored_at) "
        "VALUES (?, ?, ?, ?, ?)",
        (request.key, value, _checksum(value, request.canonical), request.canonical, time.time()),
    )
    return _decoded(value)


def _encoded(answer: Answer) -> bytes:
    fields = asdict(replace(answer, logprobs=None))
    value = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")
    return value if answer.logprobs is None else value + b"\0" + pack(answer.logprobs)


def _decoded(value: bytes) -> Answer:
    """Inverse of `_encoded`. JSON contains no zero byte, so the first one ends it."""
    text, has_block, block = value.partition(b"\0")
    answer = Answer.from_fields(json.loads(text))
    return replace(answer, logprobs=unpack(block)) if has_block else answer


def _checksum(value: bytes, request: bytes | None) -> str:
    both = value if request is None else request + b"\0" + value
    return hashlib.sha256(both).hexdigest()


def decode(key: str, value: object, checksum: object, request: object) -> Answer | None:
    """The answer of a row; None if the row is not what `put` wrote under this key."""
    if not isinstance(value, bytes) or not isinstance(checksum, bytes):
        return None
    if request is not None and (
        not isinstance(request, bytes) or hashlib.sha256(request).hexdigest() != key
    ):
        return None
    if _checksum(value, request).encode("ascii") != checksum:
        return None
    try:
        return _decoded(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
