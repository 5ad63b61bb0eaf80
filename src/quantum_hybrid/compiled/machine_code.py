"""Compiled once on a machine, and anew when any source beside it changes.

Numba keeps machine code on disk beside the file of the function, and goes by the contents of that
file alone; it outlives an upgrade, since pip removes only what it has installed. A kernel's vector
instructions and the layout of its plan are in modules of their own. Run with an old kernel, new
ones would mean wrong numbers, or reading past the end of an array. So a kernel's
code is kept under a digest of all modules of its folder and of this one, which is what it may be
made of: a list of modules would have to be kept right by hand.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}
_NOT_KEPT = (
    "compiled code cannot be kept beside its source, nor in the home directory: each process "
    "compiles it again; name a folder that can be written in NUMBA_CACHE_DIR"
)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`njit` without the GIL, cached on disk by the contents of its folder and of this one.

    Also without reference counts: a kernel allocates nothing, and counting those of every slice it
    takes of its arguments can be a fifth of its time.
    """
    dispatcher: Any = njit(**_OPTIONS)(function)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # Numba found no folder that it could write
        warnings.warn(_NOT_KEPT, RuntimeWarning, stacklevel=1)  # here, so it is shown once
        return dispatcher
    file = dispatcher._cache._cache_file  # Numba has no public way to say it
    folder = Path(function.__code__.co_filename).parent
    file._source_stamp = file._source_stamp, _digest(folder)
    return dispatcher


def _digest(folder: Path) -> str:
    folders = (folder, Path(__file__).parent)
    sources = (path.read_bytes() for at in folders for path in sorted(at.glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
