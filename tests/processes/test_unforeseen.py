"""An unexpected exception in the first of several processes ends all of them at once."""

from __future__ import annotations

import subprocess
import sys

from processes import free_port, launch_environment

CODE = """
import os, torch
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.processes.ranks import Ranks

with Ranks.joined(Launch.of(os.environ)) as ranks:
    if ranks.is_first:
        raise ZeroDivisionError("nobody foresaw this")
    ranks.{waits}
"""
WITHIN_S = 900
"""Gloo's own patience is half an hour."""


def outcomes(waits: str) -> list[tuple[int, str]]:
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CODE.format(waits=waits)],
            env=launch_environment(rank, 2, port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=WITHIN_S)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, text) for p, text in zip(started, said, strict=True)]


def test_the_others_are_in_the_middle_of_a_sum() -> None:
    (status, first), (_, other) = outcomes("total(torch.ones(3))")
    assert status == 1
    assert "ZeroDivisionError: nobody foresaw this" in first
    assert "ProcessLost" in other


def test_the_others_wait_to_be_told_what_to_do() -> None:
    (status, first), (_, other) = outcomes("hear()")
    assert status == 1
    assert "ZeroDivisionError: nobody foresaw this" in first
    assert "ProcessLost" in other
