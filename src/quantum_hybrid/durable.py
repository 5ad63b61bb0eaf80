"""Files and folders that are there whole or not at all, after a `kill -9` or a power cut too.

What is written has a hidden name beside its own at first (`.NAME.tmp`), is put on the disk, and
takes its place in one rename. What is removed is hidden by one rename first (`.NAME.old`). Either
is left behind by a process that is killed meanwhile, and cleared away by the next one that writes
under that name.
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
"""Error numbers of a full disk, a spent quota, and a file larger than is allowed."""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; see `write_bytes`."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
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
    """An empty folder to fill; it is `path`, in place of any before, once the block has ended.

    Where the block fails there is no new folder, and what was there before is untouched. Raises
    `WriteError` when something cannot be written, a full disk for instance.
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
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise WriteError(
            f"{path}: cannot be written: {reason}; what was kept before is whole"
        ) from error
    finally:
        shutil.rmtree(half_written, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, so that nobody finds a part of it."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    if path.exists():
        os.replace(path, hidden)
        shutil.rmtree(hidden)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
