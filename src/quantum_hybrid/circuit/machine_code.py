"""Compiled once on a machine, and anew when a source that it is made of changes.

Numba keeps machine code on disk beside the file of the function, and goes by the contents of that
file alone; it outlives an upgrade, since pip removes only what it has installed. A kernel's vector
instructions and the layout of its plan are in modules of their own. Run with an old kernel, new
ones would mean wrong numbers, or reading past the end of an array.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import njit


def compiled_with(*modules: ModuleType) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`njit(nogil=True, cache=True)`, whose cache goes by the contents of these modules too."""

    def compile_later(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = njit(nogil=True, cache=True)(function)
        file = dispatcher._cache._cache_file  # Numba has no public way to say it
        file._source_stamp = file._source_stamp, _digest(modules)
        return dispatcher

    return compile_later


def _digest(modules: tuple[ModuleType, ...]) -> str:
    sources = (Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
