"""`serve` against Atropos's own API server, in real processes; this test is the trainer."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from quantum_hybrid.corpus import IGNORED

ATROPOS = Path(__file__).parents[1] / "atropos.py"
WITHIN_S = 120.0
REGISTRATION = {
    "wandb_group": "group",
    "wandb_project": "project",
    "batch_size": 2,
    "max_token_len": 512,
    "checkpoint_dir": "checkpoints",
    "save_checkpoint_interval": 0,
    "starting_step": 0,
    "num_steps": 5,
}


def wait_for(process: subprocess.Popen[bytes], what: Callable[[], Any]) -> Any:
    """The first result that is not None, as long as the process lives."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            result = what()
        except httpx2.TransportError:
            result = None
        if result is not None:
            return result
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"{process.args} ended with {process.wait(0.2)}")
    raise TimeoutError(f"nothing within {WITHIN_S:.0f} s")


@pytest.fixture
def api(tmp_path) -> Iterator[httpx2.Client]:
    """Atropos's API server, with a trainer registered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "atroposlib.cli.run_api", "--port", str(port)]
    with (
        (tmp_path / "api.log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        try:
            wait_for(server, lambda: client.get("/").raise_for_status())
            client.post("/register", json=REGISTRATION).raise_for_status()
            yield client
        finally:
            server.terminate()


def test_a_trainer_is_served_scored_groups_of_teacher_text(api, small_llama, tmp_path) -> None:
    run = tmp_path / "run"
    flags = {
        "rollout_server_url": str(api.base_url).rstrip("/"),
        "base_model_name": small_llama,
        "run_dir": run,
        "group_size": 2,
        "max_token_length": 8,
        "eval_prompts": 2,
        "n_qubits": 3,
        "n_layers": 2,
        "steps_per_eval": 1000,
        "use_wandb": "false",
    }
    command = [sys.executable, str(ATROPOS), "serve"]
    command += [part for name, value in flags.items() for part in (f"--env.{name}", str(value))]
    with (
        (tmp_path / "serve.log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as environment,
    ):
        try:
            # The first poll starts the trainer, as far as the API is concerned.
            batch = wait_for(environment, lambda: api.get("/batch").json()["batch"])
        finally:
            environment.terminate()
    (group,) = batch
    assert len(group["tokens"]) == len(group["masks"]) == len(group["scores"]) == 2
    assert all(-1 <= score <= 1 for score in group["scores"])
    for tokens, mask in zip(group["tokens"], group["masks"], strict=True):
        targets = [token for token in mask if token != IGNORED]
        assert 0 < len(targets) < len(tokens)
        assert tokens[-len(targets) :] == targets
    assert (run / "groups.jsonl").read_text(encoding="utf-8").count("\n") >= 1
