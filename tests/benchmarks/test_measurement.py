"""Programs in processes of their own, and what becomes of one that is wrong, dies or hangs."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import measurement
from benchmarks.agreement import disagreements
from benchmarks.job import Size, write_job
from benchmarks.measurement import ROUNDS, Result, measure
from benchmarks.program import Program, ProgramFailed, Worker
from benchmarks.roster import MATMUL, engine

SIZE = Size(3, 2, 4)

WRONG = """
import numpy as np
def build(job):
    outputs = np.zeros_like(job.inputs)
    return lambda: (outputs, outputs, np.zeros_like(job.weights))
"""
TALKATIVE = """
import numpy as np
print("welcome", flush=True)
def build(job, width):
    print("built")
    return lambda: (np.full((1, int(width)), job.n_qubits), [], [])
"""
DYING = "def build(job):\n    raise ValueError('too many qubits')\n"
HANGING = "import threading\ndef build(job):\n    threading.Event().wait()\n"


def script(path: Path, source: str, *options: str) -> Program:
    path.write_text(source, encoding="utf-8")
    return Program(path.stem, path, options)


def test_wrong_and_dead_programs_are_found_and_the_others_timed(tmp_path):
    wrong = script(tmp_path / "wrong.py", WRONG)
    dead = script(tmp_path / "dead.py", DYING)
    honest = [engine("dense"), engine("statevector"), MATMUL]
    programs = [*honest, wrong, dead]
    results = measure(SIZE, dict.fromkeys(programs, sys.executable))
    for result in results[:3]:
        assert result.failure is None
        assert result.ratio is not None
        assert len(result.seconds) == ROUNDS
        assert result.peak_bytes is None or result.peak_bytes >= 0
        assert result.versions["torch"]
    assert str(results[3].failure).startswith("wrong: outputs differ")
    assert results[4].failure == "ValueError: too many qubits"
    assert results[3].seconds == results[4].seconds == []


def test_what_a_library_prints_does_not_come_between(tmp_path):
    job = tmp_path / "job.npz"
    write_job(SIZE, job)
    with Worker(script(tmp_path / "talkative.py", TALKATIVE, "2"), sys.executable) as worker:
        versions = worker.ask("setup", 60, job=str(job), packages=("numpy",))["versions"]
        assert list(versions) == ["numpy"]
        assert worker.ask("first", 60)["values"] == [[[3.0, 3.0]], [], []]
        assert len(worker.ask("round", 60, seconds=1e-9)["seconds"]) == 1


def test_a_hanging_program_is_given_up_and_ended(tmp_path):
    write_job(SIZE, tmp_path / "job.npz")
    before = set(psutil.Process().children())
    with Worker(script(tmp_path / "hanging.py", HANGING), sys.executable) as worker:
        (child,) = set(psutil.Process().children()) - before
        with pytest.raises(ProgramFailed, match=r"no answer within 0\.5 s"):
            worker.ask("setup", 0.5, job=str(tmp_path / "job.npz"), packages=())
    assert not child.is_running()


def named(name: str) -> Program:
    return Program(name, Path(name))


def test_disagreement_is_with_the_majority_and_names_what_differs():
    right = [[[0.5, 1.0]], [[0.1, 0.2]], [[3000.0, 1.0]]]
    close = [[[0.5, 1.00009]], [[0.1, 0.2]], [[3000.2, 1.0]]]
    gradient = [right[0], right[1], [[3000.0, 2.0]]]
    nan = [[[math.nan, 1.0]], right[1], right[2]]
    shape = [[[0.5]], right[1], right[2]]
    values = {"right": right, "close": close, "same": right, "again": right}
    values |= {"gradient": gradient, "nan": nan, "shape": shape, "matmul": []}
    found = disagreements({named(name): value for name, value in values.items()})
    assert {program.name: reason for program, reason in found.items()} == {
        "gradient": "wrong: gradient by weights differ from the others' by 1",
        "nan": "wrong: outputs differ from the others' by nan",
        "shape": "wrong: outputs of shape (1, 1)",
    }


def test_slow_programs_run_less_often(tmp_path, monkeypatch):
    """One whose rounds are used up has no more; one that is slow at once is not run again."""
    leader, program = (script(tmp_path / f"{name}.py", TALKATIVE, "2") for name in ("a", "b"))
    monkeypatch.setattr(measurement, "PROGRAM_SECONDS", 0.0)
    programs = dict.fromkeys([leader, program], sys.executable)
    for result in measure(SIZE, programs):
        assert (len(result.seconds), len(result.beside), result.once) == (1, 1, False)
    monkeypatch.setattr(measurement, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(measurement, "ONCE_SECONDS", 0.0)
    first, second = measure(SIZE, programs)
    assert (len(first.seconds), first.once) == (1, False)
    assert (len(second.seconds), len(second.beside), second.once) == (1, 1, True)


def test_ratios_are_taken_within_turns():
    """A machine that is ten times slower in the second turn changes no ratio."""
    result = Result("slow", SIZE, seconds=[3.0, 30.0, 3.3], beside=[1.0, 10.0, 1.0])
    assert result.ratio == pytest.approx(3)
    assert Result("without a leader", SIZE, seconds=[3.0]).ratio is None
