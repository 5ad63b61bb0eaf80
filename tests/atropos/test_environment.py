"""The environment by itself: its command line, and the settings that it is made of."""

from __future__ import annotations

import subprocess
import sys

CODE = "from quantum_hybrid.atropos.environment import QuantumHybridEnv; QuantumHybridEnv.cli()"


def said(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_its_command_line_is_that_of_the_program() -> None:
    """BaseEnv's own `process` ended in a ValueError and left half a run behind."""
    assert said("process", "--env.total_steps", "0") == (
        2,
        "",
        "error: --env.total_steps 0: must be from 1 to 1,000,000\n",
    )
