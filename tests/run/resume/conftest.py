"""Shared fixtures: a forking process, a teacher, and the unbroken run to compare with."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forked_runs import ForkServer, Line, recorded_lines
from loopback_teacher import LoopbackTeacher
from tiny_runs import STEPS, Runs, line_of_step, remains, said


@pytest.fixture(scope="session")
def loopback() -> Iterator[LoopbackTeacher]:
    server = LoopbackTeacher()
    yield server
    server.close()


@pytest.fixture
def teacher(loopback) -> Iterator[LoopbackTeacher]:
    """The teacher, with a hook that a test can run at each request."""
    loopback.asked = 0
    yield loopback
    loopback.on_request = lambda number: None


@pytest.fixture(scope="session")
def runs(loopback, small_llama, tmp_path_factory) -> Iterator[Runs]:
    values = {
        "env.base_model_name": small_llama,
        "env.total_steps": STEPS,
        "env.warmup_steps": 1,
        "env.steps_per_eval": 3,
        "env.steps_per_checkpoint": 2,
        "env.group_size": 2,
        "env.max_token_length": 8,
        "env.eval_prompts": 4,
        "env.lora_rank": 4,
        "env.n_qubits": 3,
        "env.n_layers": 2,
        "env.use_wandb": "false",
        "openai.base_url": loopback.url,
    }
    flags = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    forks = ForkServer(small_llama)
    yield Runs(forks, flags, tmp_path_factory.mktemp("cache"))
    forks.close()


@pytest.fixture(scope="session")
def unbroken(runs, tmp_path_factory) -> Path:
    """An unbroken run."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    runs.finish(run)
    assert said(run).count("left out") >= 2, "a resumed run must leave them out again"
    return run


@pytest.fixture(scope="session")
def lines(runs, unbroken, tmp_path_factory) -> list[Line]:
    """All line executions of an unbroken run."""
    folder = tmp_path_factory.mktemp("recorded")
    runs.finish(folder / "run", record=str(folder / "lines.json"))
    assert remains(folder / "run") == remains(unbroken)
    return recorded_lines(folder / "lines.json")


@pytest.fixture(scope="session")
def draw(lines) -> Callable[[str, int], Line]:
    """A line execution during an activity, drawn with a seed."""

    def draw(activity: str, seed: int) -> Line:
        generator = random.Random(f"{activity} {seed}")
        line = generator.choice([line for line in lines if line.activity == activity])
        return line._replace(count=generator.randint(1, line.count))

    return draw


@pytest.fixture(scope="session")
def killed(runs, unbroken, lines, tmp_path_factory) -> Path:
    """A run with checkpoints of steps 4 and 6, killed at its last step."""
    run = tmp_path_factory.mktemp("killed") / "run"
    assert runs.status(run, die_at=line_of_step(lines, STEPS)) == -signal.SIGKILL
    assert sorted(os.listdir(run / "checkpoints")) == ["step-000004", "step-000006"]
    return run


@pytest.fixture(scope="session", params=["checkpoint, early", "checkpoint, late", "student"])
def too_large(request, unbroken) -> int:
    """A file size that is reached in the middle of a write."""
    state = (unbroken / "checkpoints" / "step-000008" / "state.safetensors").stat().st_size
    student = (unbroken / "student" / "model.safetensors").stat().st_size
    # Larger than the checkpoint of step 0, which has no moments yet: a third of the others.
    sizes = {
        "checkpoint, early": state * 2 // 3,
        "checkpoint, late": state - 1,
        "student": student - 1,
    }
    return sizes[request.param]
