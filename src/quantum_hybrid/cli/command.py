"""This program as a person started it: `python atropos.py` in a checkout, else `quantum-hybrid`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def command(n_processes: int, *arguments: str) -> str:
    """A line that starts it again with these arguments, for a shell."""
    script = sys.argv[0]
    if Path(script).name == "atropos.py":
        started = ["python", script] if n_processes == 1 else [script]
    else:
        started = ["quantum-hybrid"]
    launcher = "" if n_processes == 1 else "torchrun ... "
    return launcher + shlex.join([*started, *arguments])
