"""Paths on the user's machine: the cache folder, and paths that the user names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from quantum_hybrid.errors import UsageError


def cache_directory() -> Path:
    """Folder that keeps converted models and the teacher's answers between runs.

    `QUANTUM_HYBRID_CACHE` names it; the default is the user's cache folder.
    """
    named = os.environ.get("QUANTUM_HYBRID_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("quantum-hybrid"))


def writable_cache_directory() -> Path:
    """Create `cache_directory` if it is missing and return it.

    Raises `UsageError` if nothing can be written there.
    """
    folder = cache_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}), so models and answers cannot be kept "
            "there; name a writable folder in QUANTUM_HYBRID_CACHE"
        ) from error


def user_path(named: str, where: str) -> Path:
    """The path with `~` and `~user` as the home directory that they stand for.

    `where` is what a `UsageError` begins with, for a user that there is not.
    """
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        user = Path(named).parts[0]
        raise UsageError(f"{where}: no home directory is known for {user}") from error
