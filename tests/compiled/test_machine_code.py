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


@pytest.mark.slow
def test_a_change_in_another_module_is_seen(tmp_path):
    """As after an upgrade, which leaves machine code behind that it knows nothing of."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    variables = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}

    def run(parts: str) -> str:
        (tmp_path / "parts.py").write_text(parts)
        command = [sys.executable, "-B", "-c", "import kernel"]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run("FACTOR = 2") == "2 0"
    assert run("FACTOR = 2") == "2 1"
    assert run("FACTOR = 3") == "3 0"
