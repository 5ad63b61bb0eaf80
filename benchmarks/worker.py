"""One program in a process of its own: ``python -P worker.py SCRIPT [OPTION ...]``.

It reads requests from stdin, a line of JSON each, and answers each with a line on stdout:

- ``setup`` (``job``, ``packages``) builds the circuit for a file of ``job.write_job``, and answers
  with the packages' versions.
- ``first`` runs the job once, and answers with its seconds and values.
- ``round`` (``seconds``) runs it for that long, at least once, and answers with each run's seconds.
- ``peak`` answers with the bytes by which memory grew at most over its idle level after ``setup``.

A script offers ``build(job, *options)``, which returns a function of no arguments: one forward and
backward pass, which returns outputs and gradients by inputs and by weights. A worker answers or
dies, and then the last line of its stderr says why. It ends when its stdin does.

It runs in every peer's environment, so it needs NumPy and nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


def main(script: str, *options: str) -> None:
    """Answer until stdin ends."""
    # Held while this process was started; see program.interruptions_held.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = _Session(_load(script).build, options)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(session, request.pop("do"))(**request)), file=answers, flush=True)


class _Session:
    """The requests, each a method."""

    def __init__(self, build: Callable[..., Callable[[], tuple]], options: tuple[str, ...]) -> None:
        self._build = build
        self._options = options

    def setup(self, job: str, packages: list[str]) -> dict[str, Any]:
        with np.load(job) as arrays:
            n_layers, n_qubits = arrays["weights"].shape
            given = SimpleNamespace(n_qubits=n_qubits, n_layers=n_layers, **arrays)
        self._run = self._build(given, *self._options)
        self._idle_bytes = _start_peak()
        return {"versions": {name: version(name) for name in packages}}

    def first(self) -> dict[str, Any]:
        started = time.perf_counter()
        values = self._run()
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "values": [np.asarray(value, np.float64).tolist() for value in values],
        }

    def round(self, seconds: float) -> dict[str, Any]:
        runs: list[float] = []
        while sum(runs) < seconds:
            started = time.perf_counter()
            self._run()
            runs.append(time.perf_counter() - started)
        return {"seconds": runs}

    def peak(self) -> dict[str, Any]:
        if self._idle_bytes is None:
            return {"bytes": None}
        return {"bytes": _memory("VmHWM") - self._idle_bytes}


def _load(script: str) -> Any:
    """Import by path: a script may bear the name of the library that it drives."""
    spec = importlib.util.spec_from_file_location("program", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _start_peak() -> int | None:
    """Set the kernel's high-water mark back to what is in memory now, and return that.

    ``ru_maxrss`` would do anywhere, but what an import or a compiler once took hides in it.
    """
    if not sys.platform.startswith("linux"):
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _memory("VmRSS")


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main(*sys.argv[1:])
