"""Run the tests that depend on the layout of vectors in another layout; for the layouts' tests.

They run in a process of their own, because a process has one layout. Most of the time is
compilation, unless an earlier run has left its machine code. Each layout has a test file of its
own, because `make test` distributes files over its workers.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantum_hybrid.compiled.layout import VARIABLE, Layout
from quantum_hybrid.compiled.vectors import LAYOUT

TESTS = ["compiled/test_layout.py", "circuit/native/test_engine.py"]
THE_SAME_IN_ALL = "reduced_angles"


def assert_passes_in(layout: Layout) -> None:
    """Run the tests marked ``vectors`` in `TESTS` that depend on the layout."""
    if layout == LAYOUT:
        pytest.skip(f"{layout} is this process's own layout: the tests themselves run in it")
    tests = Path(__file__).parent
    chosen = ["-m", "vectors", "-k", f"not {THE_SAME_IN_ALL}"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(
        [*command, *(str(tests / name) for name in TESTS)],
        cwd=tests.parent,
        env=os.environ | {VARIABLE: str(layout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
