"""A run's session: published settings, signals at its end, and optional parts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from loopback_teacher import LoopbackTeacher
from quantum_hybrid.config import RunConfig
from quantum_hybrid.run.session import published

FLAGS = {
    "total_steps": 2,
    "warmup_steps": 1,
    "group_size": 2,
    "max_token_length": 8,
    "eval_prompts": 2,
    "n_qubits": 3,
    "n_layers": 2,
    "use_wandb": "false",
}
WITHOUT_ATROPOS = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "atroposlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from quantum_hybrid.cli import main
sys.exit(main(sys.argv[1:]))
"""
SIGNALLED = """
import os, signal, sys
from quantum_hybrid.run import session

def write_and_be_stopped(path, content, write=session.write_json):
    write(path, content)
    if path.name == "summary.json":
        os.kill(os.getpid(), signal.{name})

session.write_json = write_and_be_stopped
from quantum_hybrid.cli import main
sys.exit(main(sys.argv[1:]))
"""
STOPPED_EARLY = """
import os, signal, sys, time
from quantum_hybrid.training.learner import CalibrationTexts

def endless(self, body, heed):
    os.kill(os.getpid(), signal.SIGTERM)
    given_up = time.monotonic() + 60
    while time.monotonic() < given_up:
        heed()
    raise AssertionError("the signal was not heeded")

CalibrationTexts.hidden_rows = endless
from quantum_hybrid.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(small_llama, tmp_path, monkeypatch):
    """A complete run of two steps, by a given program."""
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "cache"))
    teacher = LoopbackTeacher()
    values = FLAGS | {"base_model_name": small_llama, "run_dir": tmp_path / "run"}
    flags = [str(part) for name, value in values.items() for part in (f"--env.{name}", value)]
    yield lambda code: subprocess.run(
        [sys.executable, "-c", code, "process", "--openai.base_url", teacher.url, *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    teacher.close()


def test_a_run_does_without_atroposlib(command, tmp_path) -> None:
    done = command(WITHOUT_ATROPOS)
    assert done.returncode == 0, done.stderr
    assert "group" in (tmp_path / "run" / "groups.html").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_comes_when_all_is_written_changes_nothing(command, tmp_path, name) -> None:
    done = command(SIGNALLED.replace("{name}", name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}: stopping" in done.stdout
    assert "student" in done.stdout.splitlines()[-6]
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["last"]


def test_a_signal_interrupts_the_calibration(command, tmp_path) -> None:
    done = command(STOPPED_EARLY)
    assert done.returncode == 143, done.stdout + done.stderr
    assert done.stderr == "error: stopped by SIGTERM\n"
    assert "building  the head, from 64 training prompts" in done.stdout
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_tracking_service_sees_no_path_of_this_machine(tmp_path) -> None:
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        prompts=str(tmp_path / "prompts.txt"),
        data_path_to_save_groups=str(tmp_path / "groups.jsonl"),
        base_model_name=str(tmp_path),
        seed=3,
    )
    fields = published(config)
    assert fields["seed"] == 3
    assert fields["base_model_name"] == tmp_path.name
    assert str(tmp_path) not in json.dumps(fields)
    assert published(RunConfig(base_model_name="org/model"))["base_model_name"] == "org/model"
