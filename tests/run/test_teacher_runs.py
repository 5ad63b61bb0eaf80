"""Complete runs with a teacher that fails, costs money or repeats the key."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from misbehaving_server import ACTING, KEY, MODEL, MisbehavingServer, Reply, choice
from quantum_hybrid.cli import main
from quantum_hybrid.run.job import GROUPS_AHEAD, MAX_LEFT_OUT_IN_A_ROW
from quantum_hybrid.run.tracking import read_metrics
from quantum_hybrid.text.prompts import built_in_prompts

ATROPOS = Path(__file__).parents[2] / "atropos.py"
VOLATILE = ("time_s", "train/tokens_per_second")
HERMES_KEY = "sk-hermes-0123456789abcdef"
STEPS = 4
HELD_OUT = 3


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ATROPOS_HERMES_API_KEY", HERMES_KEY)
    return tmp_path


@pytest.fixture
def flags(tiny_llama: Path) -> list[str]:
    """A run of a few seconds; a group is one request."""
    values = {
        "env.base_model_name": tiny_llama,
        "env.total_steps": STEPS,
        "env.warmup_steps": 1,
        "env.steps_per_eval": 2,
        "env.group_size": 2,
        "env.max_token_length": 8,
        "env.eval_prompts": HELD_OUT,
        "env.n_qubits": 3,
        "env.n_layers": 2,
        "openai.model_name": MODEL,
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def figures(run: Path) -> list[dict[str, Any]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def test_a_limit_stops_a_run_cleanly_and_it_goes_on_without_paying_twice(
    flags, workplace, capsys
) -> None:
    run = ["process", "--env.run_dir", "run"]
    with MisbehavingServer(seed=0, fault_share=0.0) as server:
        first = [*flags, "--openai.base_url", server.base_url]
        assert main([*run, *first, "--openai.max_requests", str(HELD_OUT + 2)]) == 3
        shown = capsys.readouterr()
        assert shown.err.startswith("error: stopped at --openai.max_requests 5")
        assert shown.err.count("\n") == 1
        assert "Go on with: quantum-hybrid process --env.run_dir run" in shown.out
        assert server.requests == HELD_OUT + 2
        assert read(workplace / "run" / "teacher.json")["requests"] == HELD_OUT + 2

        prices = ["--openai.input_price", "1", "--openai.output_price", "1"]
        unlimited = ["--openai.max_requests", "1000"]
        assert main([*run, *unlimited, *prices, "--openai.max_cost", "0"]) == 3
        assert "error: stopped at --openai.max_cost 0" in capsys.readouterr().err
        assert server.requests == HELD_OUT + 2

        assert main([*run, *unlimited, *prices, "--openai.max_cost", "1"]) == 0
        shown = capsys.readouterr()
        assert server.requests == HELD_OUT + STEPS, "nothing was asked for twice"
        teacher = read(workplace / "run" / "summary.json")["teacher"]
        assert teacher["requests"] == server.requests
        assert teacher["answers"] == HELD_OUT + 2 * STEPS
        assert teacher["faults"] == {}
        assert 0 < teacher["cost"] < 1
        assert f"teacher   {teacher['answers']} answers in {server.requests} requests" in shown.out

        n_connections = server.connections
        assert main(["process", "--env.run_dir", "again", *first]) == 0
        assert main(["process", "--env.run_dir", "again"]) == 0
        assert server.connections == n_connections, "a finished run repeated asks for nothing"
    assert figures(workplace / "again") == figures(workplace / "run")


def test_a_server_that_names_its_only_model_is_not_asked_for_it_again(
    flags, workplace, capsys
) -> None:
    unnamed = flags[: flags.index("--openai.model_name")]
    with MisbehavingServer(seed=0, fault_share=0.0) as server:
        server.models = [MODEL]
        first = [*unnamed, "--openai.base_url", server.base_url]
        assert main(["process", "--env.run_dir", "one", *first]) == 0
        n_connections = server.connections
        assert main(["process", "--env.run_dir", "two", *first]) == 0
        assert server.connections == n_connections
        assert figures(workplace / "one") == figures(workplace / "two")

        server.models = ["another"]
        longer = ["--env.total_steps", str(STEPS + 1)]
        assert main(["process", "--env.run_dir", "three", *first, *longer]) == 2
        assert "is now another, and answers of m are in use" in capsys.readouterr().err


class Withholding(MisbehavingServer):
    """A teacher that has no text for one prompt."""

    withheld = ""

    def __enter__(self) -> Withholding:
        super().__enter__()
        return self

    def _good(self, request: dict[str, Any]) -> Reply:
        if request["messages"][0]["content"] != self.withheld:
            return super()._good(request)
        silent = [choice(i, "", "content_filter") for i in range(request["n"])]
        return self.completion(request, silent)


def test_a_dead_server_and_a_withheld_prompt_end_no_run(flags, workplace, capsys) -> None:
    silent = next(built_in_prompts().schedule(0, 2))[0]
    with Withholding(seed=0, fault_share=0.0) as server:
        server.withheld = silent.text
        urls = f"http://127.0.0.1:9/v1,{server.base_url}"
        assert main(["process", "--env.run_dir", "run", *flags, "--openai.base_url", urls]) == 0
        shown = capsys.readouterr().out
        assert "http://127.0.0.1:9/v1 (model m): cannot be reached" in shown
        assert f"left out prompt '{silent.id}'" in shown
        assert "(no key)" in shown, "the second server has no key of its own"
        teacher = read(workplace / "run" / "summary.json")["teacher"]
        assert teacher["faults"]["content_filter"] >= 5
        assert list(teacher["answers_by_teacher"]) == [f"{MODEL} {server.base_url}"]
        groups = (workplace / "run" / "groups.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(groups) == STEPS

        n_requests = server.requests
        assert main(["process", "--env.run_dir", "again", *flags, "--openai.base_url", urls]) == 0
        assert server.requests == n_requests, "the silence is kept like an answer"
    assert figures(workplace / "again") == figures(workplace / "run")


def test_a_held_out_prompt_without_text_is_not_evaluated(flags, workplace, capsys) -> None:
    silent = built_in_prompts().held_out("test", HELD_OUT, 0)[0]
    with Withholding(seed=0, fault_share=0.0) as server:
        server.withheld = silent.text
        url = server.base_url
        assert main(["process", "--env.run_dir", "run", *flags, "--openai.base_url", url]) == 0
    assert f"not evaluated: prompt '{silent.id}'" in capsys.readouterr().out
    held_out = (workplace / "run" / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(held_out) == HELD_OUT - 1


def test_answers_under_way_when_a_run_is_stopped_are_kept(flags, workplace) -> None:
    """Ctrl-C while the server still writes: the run waits for the reply, which is paid for."""
    command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", "run", *flags]
    with MisbehavingServer(seed=0, fault_share=0.0) as server:
        server.hold_after(HELD_OUT)
        with subprocess.Popen(
            [*command, "--openai.base_url", server.base_url], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            server.wait_until_held()
            process.send_signal(signal.SIGINT)
            shown = ""
            for line in process.stdout:
                shown += line
                if line.startswith("waiting for requests in flight"):
                    server.release()
            assert process.wait() == 130
        assert "waiting for requests in flight" in shown
        assert server.requests > HELD_OUT
        assert main(["process", "--env.run_dir", "run"]) == 0
        assert server.requests == HELD_OUT + STEPS
    teacher = read(workplace / "run" / "summary.json")["teacher"]
    assert teacher["requests"] == HELD_OUT + STEPS
    assert teacher["answers"] == HELD_OUT + 2 * STEPS


class Shouting(MisbehavingServer):
    """A teacher whose name and later error messages contain terminal sequences."""

    name = f"{ACTING}[bold]big[/bold] :fire: `seed` {'x' * 5000}"

    def _good(self, request: dict[str, Any]) -> Reply:
        assert request["model"] == self.name
        if self.requests <= HELD_OUT:
            return self.completion(request, [choice(0, "Yes.", ACTING)], model=self.name)
        return Reply({"error": {"message": f"{ACTING} `seed` {'y' * 5000}"}}, 400)


def test_a_server_s_words_reach_terminal_and_log_clean_and_short(flags, workplace, capsys) -> None:
    unnamed = flags[: flags.index("--openai.model_name")]
    with Shouting(seed=0, fault_share=0.0) as server:
        server.models = [server.name]
        url = ["--openai.base_url", server.base_url]
        assert main(["process", "--env.run_dir", "run", *unnamed, *url]) == 1
        server.models = [server.name, "other"]
        assert main(["process", "--env.run_dir", "two", *unnamed, *url, "--env.seed", "1"]) == 2
    shown = capsys.readouterr()
    log = (workplace / "run" / "log.txt").read_text(encoding="utf-8")
    for text in (shown.out, shown.err, log):
        assert all(row.isprintable() for row in text.split("\n"))
        assert max(map(len, text.split("\n"))) < 1000
    assert "(model [bold]big[/bold] :fire: `seed` xxx" in shown.err
    assert "the server offers [bold]big[/bold] :fire: `seed` xxx" in shown.err
    assert len(shown.err.splitlines()) == 2
    assert "(model [bold]big[/bold] :fire: `seed` xxx" in log


class Refusing(MisbehavingServer):
    """A teacher that refuses the key and repeats it in its message."""

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = {"error": {"message": f"invalid key {KEY} in Bearer {KEY}"}}
        writer.write(Reply(said, 401, X_Echo=KEY, Connection="close").bytes())
        await writer.drain()
        writer.close()


def command_lines(pid: int) -> list[str]:
    """The command lines of the process and its children."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    return [" ".join(member.cmdline()) for member in family]


def test_the_key_is_in_nothing_that_a_run_leaves(flags, workplace) -> None:
    """Even if the server repeats the key in answers and errors; child processes do not show it."""
    for name in ("home", "tmp"):
        (workplace / name).mkdir()
    environment = os.environ | {
        "HOME": str(workplace / "home"),
        "TMPDIR": str(workplace / "tmp"),
        "WANDB_MODE": "offline",
    }
    shown, processes = "", []
    with MisbehavingServer(3, 0.0) as server, Refusing(3, 0.0) as refusing:
        server.force(["the key in an answer"] * 3)
        for run, url in (("run", server.base_url), ("refused", refusing.base_url)):
            command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", run, *flags]
            with subprocess.Popen(
                [*command, "--openai.base_url", url, "--env.seed", str(len(run))],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    shown += line
                    if line.startswith("step "):
                        processes += command_lines(process.pid)
            assert process.returncode == (0 if run == "run" else 1), shown

    assert server.injected["the key in an answer"] == 3
    assert "refused the API key" in shown
    assert "[API key]" in shown
    assert len(set(processes)) >= 2, "wandb's own process is among them"
    files = [path for path in workplace.rglob("*") if path.is_file()]
    names = {path.relative_to(workplace).parts[0] for path in files}
    assert {"run", "refused", "cache"} <= names
    kinds = {path.suffix for path in files}
    assert {".sqlite", ".jsonl", ".json", ".txt", ".html", ".safetensors", ".wandb"} <= kinds
    assert server.authorizations == {f"bearer {KEY}"}, "the key for Hermes stays at home"
    keys = [key.encode() for key in (KEY, HERMES_KEY)]
    spellings = [spelled for key in keys for spelled in (key, base64.b64encode(key), key[3:])]
    for secret in spellings:
        assert not [path for path in files if secret in path.read_bytes()]
        assert secret.decode() not in shown
        assert not [line for line in processes if secret.decode() in line]


class Repeating(MisbehavingServer):
    """A teacher that gives every prompt the same answer, such as a refusal."""

    def _good(self, request: dict[str, Any]) -> Reply:
        same = [choice(i, "I cannot help with that.") for i in range(request["n"])]
        return self.completion(request, same)


def test_a_teacher_that_repeats_itself_is_given_up(flags, workplace, capsys) -> None:
    """Each of its answers is a held-out answer, so further requests would only cost money."""
    with Repeating(seed=0, fault_share=0.0) as server:
        url = server.base_url
        assert main(["process", "--env.run_dir", "run", *flags, "--openai.base_url", url]) == 1
        n_paid = server.requests
        assert n_paid <= HELD_OUT + MAX_LEFT_OUT_IN_A_ROW + GROUPS_AHEAD
        shown = capsys.readouterr()
        assert f"last {MAX_LEFT_OUT_IN_A_ROW} groups could not be trained on" in shown.err
        assert "one of its answers is a held-out answer" in shown.err
        assert len(shown.err.strip().splitlines()) == 1

        assert main(["process", "--env.run_dir", "run"]) == 1
        assert server.requests == n_paid, "going on asks for nothing anew"
