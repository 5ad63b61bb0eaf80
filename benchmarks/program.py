"""A program that takes part in the benchmark, and the process in which it runs.

All processes inherit the same cores, threads and memory limit, and none outlives its ``Worker``.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
THREADS = 2
MEMORY_SHARE = 0.6
"""Of the machine's memory, that one program may take."""

HELD = (signal.SIGINT, signal.SIGTERM)
_LAST_WORDS = 120
_SECONDS_TO_DIE = 5


class ProgramFailed(Exception):
    """A program died, or did not answer in time; the message is the reason, on one line."""


@dataclass(frozen=True)
class Program:
    """What to start."""

    name: str
    """As the table shows it."""

    script: Path
    """Offers ``build``; see ``worker``."""

    options: tuple[str, ...] = ()
    """Further arguments of ``build``."""

    packages: tuple[str, ...] = ()
    """Distributions whose versions are reported."""

    environment: str | None = None
    """Name of its own environment (see ``environment``); the project's if None."""


def confine() -> None:
    """Bind this process, and so all that it starts, to ``THREADS`` cores and a share of memory.

    Beyond its share a program fails to allocate, instead of the machine killing what it likes.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(MEMORY_SHARE * machine), hard))


@contextmanager
def interruptions_held() -> Iterator[None]:
    """Ctrl-C waits until the end, so that it cannot come between a start and its ``Worker``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A running program: ask it, and close it."""

    def __init__(self, program: Program, python: str) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._unread = b""
        self._process = subprocess.Popen(
            [python, "-P", str(WORKER), str(program.script), *program.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(own=program.environment is None),
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None and not pipe.closed:
                _close_quietly(pipe)

    def ask(self, do: str, limit_seconds: float, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            ProgramFailed: it died, or took longer than the limit.
        """
        self.send(do, **fields)
        return self.receive(limit_seconds)

    def send(self, do: str, **fields: Any) -> None:
        """Send a request; the answer is for `receive`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProgramFailed(self._last_words()) from None

    def receive(self, limit_seconds: float) -> dict[str, Any]:
        """The answer to the request before; errors as in `ask`."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        deadline = time.monotonic() + limit_seconds
        pieces = [self._unread]
        while b"\n" not in pieces[-1]:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                raise ProgramFailed(f"no answer within {limit_seconds:g} s")
            pieces.append(os.read(pipe, 2**20))
            if not pieces[-1]:
                raise ProgramFailed(self._last_words())
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        try:
            code = self._process.wait(_SECONDS_TO_DIE)
        except subprocess.TimeoutExpired:
            return "stopped answering"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        if code < 0 or not words:
            return f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return words[-1][:_LAST_WORDS]


def _environment(own: bool) -> Mapping[str, str]:
    variables = dict(os.environ)
    if not own:
        variables.pop("PYTHONPATH", None)
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS)
    )
    return {**variables, **threads, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _close_quietly(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # What was not yet written when its reader died.
        return
