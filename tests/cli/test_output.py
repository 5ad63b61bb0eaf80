"""Standard output that is full, closed or without a reader: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantum_hybrid.teacher.cache import AnswerCache, answers_path

ATROPOS = Path(__file__).parents[2] / "atropos.py"
FULL = "error: standard output cannot be written: No space left on device\n"
PRINTED = ["", "--help", "process --help", "cache ls", "process --env.run_dir COMPLETE"]


@pytest.fixture(params=PRINTED)
def printed(
    request, complete, tmp_path, monkeypatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command that only prints something, with given outputs.

    Python buffers them, as it does by default, and so writes what is left once more at exit.
    """
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    AnswerCache(answers_path()).close()
    arguments = request.param.replace("COMPLETE", str(complete)).split()

    def run(**outputs: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ATROPOS), *arguments]
        return subprocess.run(command, cwd=tmp_path, text=True, check=False, **outputs)

    return run


def test_an_output_that_is_full_is_one_line_and_no_trace(printed) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = printed(stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (1, FULL)
        assert printed(stdout=full, stderr=full).returncode == 1


def test_a_reader_that_goes_away_is_no_error(printed) -> None:
    """As with `| head -1`; here the reader is closed from the start."""
    nobody_reads, written = os.pipe()
    os.close(nobody_reads)
    done = printed(stdout=written, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    assert printed(stdout=written, stderr=written).returncode == 128 + signal.SIGPIPE
    os.close(written)


def test_an_output_that_is_closed_is_no_error(printed) -> None:
    """As with `>&-`: Python then drops what is printed."""
    done = printed(stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert done.stderr == ""
    assert done.returncode == (0 if done.args[2:] else 2)
