"""Atomic writes of files and folders, which hold even after a `kill -9` or a power cut.

A file or folder is first written beside its destination under a hidden name (`.NAME.tmp`), synced
to the disk, and then renamed. A folder is first renamed to `.NAME.old` and then removed. A killed
process may leave either behind; the next process that writes under the same name removes it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from quantum_hybrid.errors import WriteError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a file above the size limit."""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; see `write_bytes`."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader finds the old content or the new one. Raises `OSError`."""
    half_written = path.with_name(f".{path.name}.tmp")
    try:
        half_written.write_bytes(content)
        sync(half_written)
        os.replace(half_written, path)
    except BaseException:
        half_written.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; after the block it replaces `path`.

    If the block fails, an existing folder at `path` stays unchanged. Raises `WriteError` if
    something cannot be written, for instance because the disk is full.
    """
    half_written = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(half_written, ignore_errors=True)
        half_written.mkdir(parents=True)
        yield half_written
        for entry in (*half_written.rglob("*"), half_written):
            sync(entry)
        remove_folder(path)
        os.replace(half_written, path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        reason = str(error)
        if isinstance(error, OSError):  # NumPy's tells how much was written, and not why.
            reason = error.strerror or f"{error} (is the disk full?)"
        raise WriteError(
            f"{path}: cannot be written: {reason}; files written before are intact"
        ) from error
    finally:
        shutil.rmtree(half_written, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it exists, so that no reader finds a part of it."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    if path.exists():
        os.replace(path, hidden)
        shutil.rmtree(hidden)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
