"""Packaging: declared dependencies, and the wheel's contents."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "quantum_hybrid"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]) for line in requirements}


def imported() -> set[str]:
    """Top-level packages that the sources import, except the standard library and ours."""
    names = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"quantum_hybrid"}


def test_whatever_is_imported_is_declared() -> None:
    distributions = packages_distributions()
    required = declared(PROJECT["dependencies"])
    required |= declared(PROJECT["optional-dependencies"]["ray"])  # Imported when it is asked for.
    found = {name: {normalised(d) for d in distributions[name]} for name in imported()}
    assert {name for name, names in found.items() if not names & required} == set()


def test_each_dependency_is_declared_once_and_explained() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|([^|]+)\|", page, re.M)
    explained = {normalised(name) for row in rows for name in re.findall(r"[\w-]+", row)}
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        assert len(declared(group)) == len(group)
        assert declared(group) - explained == set()


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_what_they_read(tmp_path) -> None:
    """Built from a copy, because setuptools leaves a folder in the tree and packs its content."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tree / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if name.startswith("quantum_hybrid/")}
    sources = (tree / "src" / "quantum_hybrid").rglob("*")
    there = {path.relative_to(tree / "src").as_posix() for path in sources if path.is_file()}
    assert packed == there
    data = ("py.typed", "text/data/prompts.jsonl", "study/data/instrument.json")
    assert {f"quantum_hybrid/{name}" for name in data} <= packed


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_only_torch_comes_from_another_index() -> None:
    command = ["make", "--dry-run", "--always-make", "setup", "TORCH_INDEX=https://a.example/cpu"]
    # Nothing of the make that may have started the tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if "a.example" in line]
    assert re.search(r'install .*--no-deps --index-url "https://a.example/cpu" torch$', line)
