"""`serve` against Atropos's own API server, in real processes; this test is the trainer."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loopback_teacher import LoopbackTeacher
from quantum_hybrid.cli import main
from quantum_hybrid.run.tracking import read_metrics
from quantum_hybrid.text.encoder import IGNORED

ATROPOS = Path(__file__).parents[2] / "atropos.py"
WITHIN_S = 900.0
"""Nothing takes as long that comes to an end, on a machine of one busy core neither."""
REGISTRATION = {
    "wandb_group": "group",
    "wandb_project": "project",
    "batch_size": 2,
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
def longest() -> int:
    """Tokens of an answer from which on the trainer takes none."""
    return 512


@pytest.fixture
def api(tmp_path, longest) -> Iterator[httpx2.Client]:
    """Atropos's API server, with a trainer registered; the first registration is what counts."""
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
            client.post(
                "/register", json=REGISTRATION | {"max_token_len": longest}
            ).raise_for_status()
            yield client
        finally:
            server.terminate()


@pytest.fixture
def teacher() -> Iterator[LoopbackTeacher]:
    server = LoopbackTeacher()
    yield server
    server.close()


STEPS, MANY = 3, 8


RECORDS = ("groups.jsonl", "metrics.jsonl")


class Serving:
    """`serve` in a process of its own, against the API and a teacher on loopback."""

    def __init__(self, api: httpx2.Client, base_model: Path, folder: Path) -> None:
        self.api, self.run, self.log = api, folder / "run", folder / "serve.log"
        self.url = str(api.base_url).rstrip("/")
        self.address = ("--env.rollout_server_url", self.url)
        values = {
            "base_model_name": base_model,
            "group_size": 2,
            "total_steps": STEPS,
            "warmup_steps": 1,
            "max_token_length": 8,
            "eval_prompts": 2,
            "n_qubits": 3,
            "n_layers": 2,
            "steps_per_eval": 2,
            "steps_per_checkpoint": 1,
            "use_wandb": "false",
        }
        self.new = [part for name, value in values.items() for part in (f"--env.{name}", value)]

    def start(self, *flags: Any) -> subprocess.Popen[bytes]:
        own = ("--env.rollout_server_url", self.url, "--env.run_dir", self.run)
        command = [sys.executable, ATROPOS, "serve", *own, *flags]
        with self.log.open("ab") as log:
            return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)

    def batch(self, process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        """The next batch; the first poll starts the trainer, as far as the API is concerned."""
        return wait_for(process, lambda: self.api.get("/batch").json()["batch"])

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def figures(self) -> list[dict[str, Any]]:
        return read_metrics(self.run / "metrics.jsonl")

    def all_of(self, served: list[dict[str, Any]]) -> bool:
        """Whether each group has been served once; the API gives the newest of its queue first."""
        ours, theirs = ([group["tokens"] for group in of] for of in (self.groups(), served))
        return sorted(ours) == sorted(theirs)

    def groups(self) -> list[dict[str, Any]]:
        lines = (self.run / "groups.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def serving(api, small_llama, tmp_path, monkeypatch) -> Serving:
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "cache"))
    return Serving(api, small_llama, tmp_path)


def test_a_run_is_served_to_its_last_step_and_leaves_what_any_run_leaves(serving, teacher) -> None:
    process = serving.start(*serving.new, "--openai.base_url", teacher.url)
    try:
        waiting = "waiting   for a trainer"
        wait_for(process, lambda: waiting in serving.said() or None)
        served = [group for _ in range(STEPS) for group in serving.batch(process)]
        assert process.wait(WITHIN_S) == 0, serving.said()
    finally:
        process.kill()
    assert serving.said().count(waiting) == 1
    assert "Waiting to register" not in serving.said()
    assert serving.all_of(served)
    for group in served:
        assert len(group["tokens"]) == len(group["masks"]) == len(group["scores"]) == 2
        assert all(-1 <= score <= 1 for score in group["scores"])
        for tokens, mask in zip(group["tokens"], group["masks"], strict=True):
            targets = [token for token in mask if token != IGNORED]
            assert 0 < len(targets) < len(tokens)
            assert tokens[-len(targets) :] == targets
    steps = [row["step"] for row in serving.figures() if "eval/hybrid_loss" in row]
    assert steps == [0, 2, STEPS]
    assert (serving.run / "summary.json").is_file()
    assert (serving.run / "student" / "model.safetensors").is_file()


def test_a_run_that_is_stopped_and_served_again_goes_on_with_its_own_settings(
    serving, teacher
) -> None:
    # More steps than the API keeps groups waiting for a trainer.
    more = ("--env.total_steps", MANY, "--openai.base_url", teacher.url)
    process = serving.start(*serving.new, *more)
    try:
        served = [serving.batch(process)[0]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 128 + signal.SIGTERM, serving.said()
        assert "Traceback" not in serving.said()
        assert f" serve --env.run_dir {serving.run} {' '.join(serving.address)}\n" in serving.said()
        before = serving.figures()
        n_taken = len([row for row in before if "train/hybrid_loss" in row])
        assert len(serving.groups()) == n_taken >= 1
        assert (serving.run / "checkpoints" / f"step-{n_taken:06d}").is_dir()

        process = serving.start()
        # What was queued when the first process ended is the API's to give.
        served += [serving.batch(process)[0] for _ in range(MANY - 1)]
        assert process.wait(WITHIN_S) == 0, serving.said()
    finally:
        process.kill()
    assert serving.figures()[: len(before)] == before
    assert len(serving.groups()) == MANY
    assert serving.all_of(served)
    steps = [row["step"] for row in serving.figures() if "train/hybrid_loss" in row]
    assert steps == list(range(1, MANY + 1))


def ends_because_none_is_sent(serving: Serving, teacher: LoopbackTeacher) -> None:
    more = ("--env.total_steps", 60, "--openai.base_url", teacher.url)
    process = serving.start(*serving.new, *more)
    try:
        # The poll starts the trainer, as far as the API is concerned.
        wait_for(process, lambda: serving.api.get("/batch").json()["batch"] or process.poll())
    except AssertionError:
        pass  # it has ended: how is asked below
    finally:
        process.kill()
    assert process.returncode == 1, serving.said()
    assert "groups could not be sent to the trainer" in serving.said()
    assert "Traceback" not in serving.said().split("error: ")[-1]
    assert len(serving.groups()) < 30


def test_a_killed_run_goes_on_without_the_trainer_or_not_without_a_checkpoint(
    serving, teacher, tmp_path, capsys
) -> None:
    """Without: as a run of an earlier version, killed before its first checkpoint."""
    more = ("--env.total_steps", MANY, "--openai.base_url", teacher.url)
    process = serving.start(*serving.new, *more)
    try:
        serving.batch(process)
    finally:
        process.kill()
    process.wait()
    shutil.copytree(serving.run, tmp_path / "copy")
    assert main(["process", "--env.run_dir", str(tmp_path / "copy")]) == 0
    assert f"no more groups go to the trainer at {serving.url}\n" in capsys.readouterr().out
    shutil.rmtree(serving.run / "checkpoints")
    before = {name: (serving.run / name).read_bytes() for name in RECORDS}
    assert serving.start().wait(WITHIN_S) == 2
    assert "the run recorded steps but has no checkpoint to resume from" in serving.said()
    assert {name: (serving.run / name).read_bytes() for name in RECORDS} == before


@pytest.mark.parametrize("longest", [2])
def test_groups_too_long_for_the_trainer_are_not_bought_without_end(serving, teacher) -> None:
    ends_because_none_is_sent(serving, teacher)


@contextlib.contextmanager
def refusing(api: httpx2.Client) -> Iterator[str]:
    """The address of a proxy in front of the API that takes no group, as one with a small limit."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = 413, b"{}"
            if self.path != "/scored_data":
                kind = {"Content-Type": "application/json"}
                reply = api.request(self.command, self.path, content=body, headers=kind)
                status, content = reply.status_code, reply.content
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()


def test_groups_that_the_api_refuses_are_not_bought_without_end(serving, teacher) -> None:
    with refusing(serving.api) as serving.url:
        ends_because_none_is_sent(serving, teacher)


def refused(serving: Serving, capsys: pytest.CaptureFixture[str], *flags: Any) -> tuple[int, str]:
    """Exit status and error of a `serve` in this process, which must leave no run."""
    own = ("--env.rollout_server_url", serving.url, "--env.run_dir", serving.run)
    status = main([str(part) for part in ("serve", *own, *serving.new, *flags)])
    assert not serving.run.exists()
    return status, capsys.readouterr().err


def test_without_an_api_nothing_is_paid_for_and_nothing_left(serving, teacher, capsys) -> None:
    for url, message in (
        ("http://127.0.0.1:9", "error: Atropos's API at http://127.0.0.1:9 cannot be reached"),
        (teacher.url, f"error: the server at {teacher.url} is no Atropos API"),
    ):
        serving.url = url
        status, error = refused(serving, capsys, "--openai.base_url", teacher.url)
        assert status == 1
        assert error.startswith(message)
        assert error.count("\n") == 1
    assert teacher.asked == 0


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1, "--env.group_size 1: no group would be sent, since the scores of one answer are all"),
        (3, "--env.group_size 3: must be at most the trainer's batch size, 2"),
    ],
)
def test_groups_that_do_not_fit_the_trainer_are_refused_before_the_teacher_is_asked(
    serving, teacher, capsys, size, message
) -> None:
    more = ("--env.group_size", size, "--openai.base_url", teacher.url)
    status, error = refused(serving, capsys, *more)
    assert status == 2
    assert error.startswith(f"error: {message}")
    assert teacher.asked == 0
