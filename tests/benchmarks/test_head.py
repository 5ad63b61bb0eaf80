"""The head's benchmark: what it lets pass, what it refuses, and the clock of a step's parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import process
from benchmarks.head import TOLERANCE, disagreement
from benchmarks.process import Clock

ROOT = Path(__file__).parents[2]


def test_a_difference_is_named() -> None:
    plain = [[10.0, 8.0], [[1e-4, -2e-4]], [[3.0]]]
    assert disagreement(plain, plain) is None
    close = [[10.0, 8.0 + TOLERANCE / 2], [[1e-4, -2e-4]], [[3.0]]]
    assert disagreement(plain, close) is None
    losses = [[10.0, 8.001], plain[1], plain[2]]
    assert str(disagreement(plain, losses)).startswith("the losses: by 0.001")
    gradient = [plain[0], [[1e-4, -2.1e-4]], plain[2]]
    assert str(disagreement(plain, gradient)).startswith("the gradient by the hidden states")
    nan = [plain[0], plain[1], [[float("nan")]]]
    assert str(disagreement(plain, nan)).startswith("the gradient by `up`: by nan")


def last_line(*arguments: str) -> dict[str, Any]:
    """Of a benchmark's output."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_ways_are_measured_and_agree() -> None:
    found = last_line("benchmarks.head", "--cases", "probability,trained", "--size", "24,3000,64")
    assert found["size"] == "24,3000,64"
    assert [row["way"] for row in found["rows"]] == ["classical", "plain", "one pass"]
    assert found["rows"][0]["times_classical"] == 1
    assert found["rows"][1]["peak_by_plain"] == 1
    assert all(row["median_ms"] >= row["least_ms"] > 0 for row in found["rows"])
    expected = [found["rows"][2]["times_classical"], found["rows"][2]["peak_by_plain"]]
    assert [goal["figure"] for goal in found["goals"]] == expected


def test_every_part_of_a_step_has_its_time(small_llama: Path) -> None:
    """The marks are set on functions by name; a part whose function has another name has none."""
    flags = {"base_model_name": small_llama, "n_qubits": 3, "max_token_length": 8}
    flags |= {"warmup_steps": 1, "eval_prompts": 2}
    given = [part for name, value in flags.items() for part in (f"--env.{name}", str(value))]
    found = last_line("benchmarks.process", "--steps", "4", *given)
    assert (found["steps"], found["tokens"] > 0) == (2, True)
    assert found["shares"].keys() == set(process.PARTS)
    assert all(share > 0 for share in found["shares"].values())
    assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-3)
    rest = 1 - found["shares"]["backbone"] - found["shares"]["head"]
    assert found["goal"]["figure"] == pytest.approx(rest, abs=1e-3)


def test_an_unknown_case_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.head", "--cases", "logits,thawed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'logits,thawed'; allowed: logits,frozen" in done.stderr


def test_what_runs_within_a_part_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that shows what it is told: each call of `pass_` lets that many seconds go by."""
    now = [0.0]
    monkeypatch.setattr(process.time, "perf_counter", lambda: now[0])
    clock = Clock()

    def pass_(seconds: float) -> None:
        now[0] += seconds

    def head() -> None:
        pass_(1)
        clock.timed("circuit", pass_)(2)
        pass_(4)

    clock.timed("head", pass_)(100)  # No step has begun.
    clock.start()
    pass_(8)
    clock.timed("head", head)()
    pass_(16)
    clock.mark("backbone")("what torch gives a hook")
    pass_(32)
    clock.stop()
    pass_(1000)
    assert clock.steps == [{"other": 24, "head": 5, "circuit": 2, "backbone": 32}]
