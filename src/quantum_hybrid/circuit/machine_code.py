"""Compiled once on a machine, and anew when a source that it is made of changes.

Numba keeps machine code on disk beside the file of the function, and goes by the contents of that
file alone; it outlives an upgrade, since pip removes only what it has installed. A kernel's vector
instructions and the layout of its plan are in modules of their own. Run with an old kernel, new
ones would mean wrong numbers, or reading past the end of an array.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


def compiled_with(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`njit` without the GIL, cached on disk by the contents of these neighbouring modules too.

    Also without reference counts: a kernel allocates nothing, and counting those of every slice it
    takes of its arguments can be a fifth of its time.
    """

    def compile_later(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = njit(**_OPTIONS)(function)
        here = Path(function.__code__.co_filename)
        digest = _digest([here.with_name(f"{name}.py") for name in names])
        file = dispatcher._cache._cache_file  # Numba has no public way to say it
        file._source_stamp = file._source_stamp, digest
        return dispatcher

    return compile_later


def _digest(paths: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
