"""Machine code on disk: compiled once on a machine, and again when a source of it changes.

Numba stores machine code beside the file of the function and checks the contents of that file only.
The code survives an upgrade, since pip removes only files that it has installed. But a kernel's
vector instructions and its arrays' layout are defined in other modules: an old kernel with new ones
would compute wrong numbers or read past the end of an array. So the key of a kernel's code contains
the contents of all modules in its folder and in this one. (A list of the modules that it is made of
would have to be maintained by hand.) The key also contains the layout of vectors, since processes
with different layouts may use the same folder.

If no folder can be written to, each process compiles for itself and warns once.
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

from quantum_hybrid.compiled.vectors import LAYOUT


def compiled(function: Callable[..., Any] | None = None, *, allocates: bool = False) -> Any:
    """`njit` without the GIL, cached on disk by the contents of all modules in the folder.

    allocates: whether the function allocates arrays. If not, it is compiled without reference
    counts: counting those of every slice of an argument can take a fifth of a kernel's time.
    """
    if function is None:
        return partial(compiled, allocates=allocates)
    options: dict[str, Any] = {"nogil": True, "_nrt": allocates}
    dispatcher: Any = njit(**options)(function)
    dispatcher._cache = _cache_of(function)  # Numba has no public interface for this
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
    """Numba's cache with another key and other files."""

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
    """A function's code on disk, one file for each key.

    Numba's own index may give the same file name to two processes that save different code at the
    same time; one of them would then run the code of the other. Here a file that is incomplete, or
    holds another key, counts as missing.
    """

    def __init__(self, folder: Path, name: str, sources: str) -> None:
        self._folder, self._prefix, self._sources = folder, f"{name}.", sources[:16]

    def load(self, key: Any) -> Any:
        """The code that was saved under a key; None if there is none."""
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
        """Save code, completely or not at all, and remove code of other sources."""
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
        """Remove all code of the function."""
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
        "compiled kernels cannot be kept on disk, so each process compiles them again, which takes "
        "up to half a minute; set NUMBA_CACHE_DIR to a folder that can be written to",
        stacklevel=2,
    )


@cache
def _digest(*folders: Path) -> str:
    sources = (path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
