"""Machine code kept on disk: used again, but not once a source that it is made of has changed."""

import os
import subprocess
import sys

import pytest

KERNEL = """
import parts
from quantum_hybrid.compiled.machine_code import compiled

FACTOR = parts.FACTOR

@compiled
def scaled(x):
    return FACTOR * x

print(scaled(1), sum(scaled.stats.cache_hits.values()))
"""
TWO = """
from quantum_hybrid.circuit.machine_code import compiled

@compiled
def doubled(x):
    return 2 * x

@compiled
def tripled(x):
    return 3 * x

print(tripled(doubled(1)))
"""


@pytest.mark.slow
def test_a_change_in_another_module_is_seen(tmp_path):
    """As after an upgrade, which leaves machine code behind that it knows nothing of."""
    (tmp_path / "kernel.py").write_text(KERNEL, encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}

    def run(parts: str) -> str:
        (tmp_path / "parts.py").write_text(parts, encoding="utf-8")
        command = [sys.executable, "-B", "-c", "import kernel"]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run("FACTOR = 2") == "2 0"
    assert run("FACTOR = 2") == "2 1"
    assert run("FACTOR = 3") == "3 0"


def test_where_nothing_can_be_written_it_is_compiled_again_and_said_once(tmp_path):
    """As in a container: installed by root, run by a user without a home."""
    (tmp_path / "kernel.py").write_text(TWO, encoding="utf-8")
    for file in ("__pycache__", "home"):
        (tmp_path / file).touch()
    nowhere = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    variables = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import kernel"],
        cwd=tmp_path,
        env=variables | nowhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "6\n"
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
