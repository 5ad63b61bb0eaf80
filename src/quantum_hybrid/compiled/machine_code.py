"""Compiled once on a machine, and anew when any source beside it changes.

Numba keeps machine code on disk beside the file of the function, and goes by the contents of that
file alone; it outlives an upgrade, since pip removes only what it has installed. A kernel's vector
instructions and the layout of its plan are in modules of their own. Run with an old kernel, new
ones would mean wrong numbers, or reading past the end of an array. So a kernel's code goes by all
modules of its folder and of this one: a list of those that it is made of would have to be kept
right by hand. It goes by the layout of vectors as well, in which processes that share a folder may
differ.

Where no folder can be written to, every process compiles for itself, and says so once.
"""

import hashlib
import pickle
import sys
import uuid
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.caching import FunctionCache, NullCache
from numba.core.serialize import dumps

from quantum_hybrid.compiled.lanes import LAYOUT


def compiled(function: Callable[..., Any] | None = None, *, allocates: bool = False) -> Any:
    """`njit` without the GIL, cached on disk by the contents of all modules in the folder.

    Also without reference counts, unless the function ``allocates``: a kernel need not, and
    counting those of every slice it takes of its arguments can be a fifth of its time.
    """
    if function is None:
        return partial(compiled, allocates=allocates)
    options: dict[str, Any] = {"nogil": True, "_nrt": allocates}
    dispatcher: Any = njit(**options)(function)
    dispatcher._cache = _cache_of(function)  # Numba has no public way to say it
    return dispatcher


def _cache_of(function: Callable[..., Any]) -> FunctionCache | NullCache:
    try:
        return _OnDisk(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return _Nowhere()


class _Nowhere(NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _warn_of_slow_starts()


class _OnDisk(FunctionCache):
    """Numba's, but for what the code goes by and for its files."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        folders = {Path(function.__code__.co_filename).parent, Path(__file__).parent}
        name = f"{function.__module__}.{function.__qualname__}"
        self._cache_file = _Files(Path(self._cache_path), name, _digest(*sorted(folders)))

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            _warn_of_slow_starts()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        versions = sys.implementation.cache_tag, numba.__version__
        return *super()._index_key(sig, codegen), versions, str(LAYOUT)


class _Files:
    """A function's code on disk, a file for each key.

    Numba's own index may give two processes that save different code at the same time one file for
    both, and the one would then run the other's. A file that is not whole, or another key's, counts
    as none.
    """

    def __init__(self, folder: Path, name: str, sources: str) -> None:
        self._folder, self._prefix, self._sources = folder, f"{name}.", sources[:16]

    def load(self, key: Any) -> Any:
        """What was saved; None if nothing was."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, saved = content[:32], content[32:]
        if hashlib.sha256(saved).digest() != digest:
            return None
        saved_key, data = pickle.loads(saved)
        return data if saved_key == key else None

    def save(self, key: Any, data: Any) -> None:
        """Whole or not at all; what was made of other sources is removed."""
        saved = dumps((key, data))
        path = self._path(key)
        unfinished = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            unfinished.write_bytes(hashlib.sha256(saved).digest() + saved)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._remove(but=self._sources)

    def flush(self) -> None:
        """Remove everything."""
        self._remove(but=None)

    def _path(self, key: Any) -> Path:
        digest = hashlib.sha256(str(key).encode()).hexdigest()[:16]
        return self._folder / f"{self._prefix}{self._sources}.{digest}.nbc"

    def _remove(self, but: str | None) -> None:
        for path in self._folder.glob("*.nbc"):
            if path.name.startswith(self._prefix) and path.name.split(".")[-3] != but:
                path.unlink(missing_ok=True)


@cache
def _warn_of_slow_starts() -> None:
    warnings.warn(
        "compiled kernels cannot be kept on disk, so that every process compiles them again, which "
        "takes up to half a minute; set NUMBA_CACHE_DIR to a folder that can be written to",
        stacklevel=2,
    )


@cache
def _digest(*folders: Path) -> str:
    sources = (path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
