"""What depends on the layout of vectors, run in another one; used by `circuit/native/layouts`.

In a process of its own, as a process has one layout. Most of the time goes into compiling, where no
earlier run has left its machine code. Each layout is a file, because `make test` gives its two
workers a file at a time.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantum_hybrid.compiled.layout import VARIABLE, Layout
from quantum_hybrid.compiled.vectors import LAYOUT

TESTS = ["compiled/test_layout.py", "circuit/native/test_engine.py"]
THE_SAME_IN_ALL = "reduced_angles or one_graph"


def assert_passes_in(layout: Layout) -> None:
    """What is marked ``vectors`` in `TESTS` passes, but for what no layout can change."""
    if layout == LAYOUT:
        pytest.skip(f"{layout} is this process's own layout: the tests themselves run in it")
    tests = Path(__file__).parent
    chosen = ["-m", "vectors", "-k", f"not ({THE_SAME_IN_ALL})"]
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
