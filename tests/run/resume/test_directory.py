"""Run directories that are damaged, in use by another process, or given other settings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.run.directory import RunDirectory
from quantum_hybrid.run.plan import RunPlan
from tiny_runs import contents, copied, figures, is_one_line, line_of_step, remains, said


def truncate(checkpoint: Path) -> None:
    os.truncate(checkpoint / "state.safetensors", 1000)


def flip_a_bit(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "state.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / "state.safetensors").write_bytes(content)


def empty_the_state(checkpoint: Path) -> None:
    os.truncate(checkpoint / "state.safetensors", 0)


def say_another_format(checkpoint: Path) -> None:
    meta = json.loads((checkpoint / "meta.json").read_text(encoding="utf-8"))
    (checkpoint / "meta.json").write_text(json.dumps(meta | {"format": 99}), encoding="utf-8")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty_the_state, say_another_format])
def test_a_damaged_checkpoint_is_named_and_the_one_before_leads_to_the_same_end(
    runs, unbroken, killed, tmp_path, damage
) -> None:
    run = copied(killed, tmp_path)
    damage(run / "checkpoints" / "step-000006")
    runs.finish(run)
    (line,) = [line for line in said(run).splitlines() if "cannot be used" in line]
    assert f"checkpoint {run / 'checkpoints' / 'step-000006'} cannot be used (" in line
    assert remains(run) == remains(unbroken)


def test_a_run_all_of_whose_checkpoints_are_damaged_is_not_started_over(
    runs, killed, tmp_path
) -> None:
    run = copied(killed, tmp_path)
    for checkpoint in (run / "checkpoints").iterdir():
        truncate(checkpoint)
    figures_before = (run / "metrics.jsonl").read_bytes()
    assert runs.status(run) == 2
    assert is_one_line(run), said(run)
    assert "no checkpoint can be used" in said(run)
    assert (run / "metrics.jsonl").read_bytes() == figures_before


def test_a_run_of_before_there_were_these_flags_goes_on(runs, unbroken, killed, tmp_path) -> None:
    """Missing settings get their defaults; checkpoints without a format number are read."""
    run = copied(killed, tmp_path)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    del config["env"]["steps_per_checkpoint"], config["env"]["checkpoints_kept"]
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file in run.glob("checkpoints/*/meta.json"):
        meta = json.loads(file.read_text(encoding="utf-8"))
        del meta["format"]
        file.write_text(json.dumps(meta), encoding="utf-8")
    arguments = ["process", "--env.run_dir", str(run)]
    assert runs.forks.run(replace(runs.order(run), arguments=arguments)) == 0, said(run)
    assert figures(run) == figures(unbroken)
    assert contents(run / "student") == contents(unbroken / "student")


@pytest.mark.parametrize("is_made_before", [False, True])
@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("env.drop_layers", "0-99", "--env.drop_layers 0-99: the backbone has layers 0 to 3"),
        ("env.base_model_name", "no-model", "no-model': cannot be loaded"),
    ],
)
def test_a_new_run_that_can_never_start_leaves_nothing(
    runs, tmp_path, flag, value, reason, is_made_before
) -> None:
    """What it asks for is found wrong once the backbone is loaded."""
    run, output = tmp_path / "runs" / "run", tmp_path / "out"
    if is_made_before:
        run.mkdir(parents=True)
    if value == "no-model":
        (tmp_path / value).mkdir()
        (tmp_path / value / "config.json").write_text('{"model_type": "x"}', encoding="utf-8")
        value = str(tmp_path / value)
    assert runs.status(run, f"--{flag}", value, output=str(output)) == 2
    assert reason in output.read_text(encoding="utf-8")
    assert run.exists() == run.parent.exists() == is_made_before
    assert [*tmp_path.rglob("run/*")] == []


@pytest.mark.parametrize("resumes", [False, True])
def test_a_run_that_has_begun_is_never_removed(tmp_path, resumes) -> None:
    plan = RunPlan(tmp_path / "run", RunConfig(), ServerConfig(), resumes)

    def record_and_refuse(run: RunDirectory) -> None:
        run.metrics_path.write_text("" if resumes else "{}\n", encoding="utf-8")
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"), RunDirectory.open(plan) as run:
        record_and_refuse(run)
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("missing", ["metrics.jsonl", "groups.jsonl"])
def test_a_run_whose_figures_are_gone_is_not_gone_on_with(runs, killed, tmp_path, missing) -> None:
    run = copied(killed, tmp_path)
    (run / missing).unlink()
    assert runs.status(run) == 2
    assert is_one_line(run), said(run)
    assert f"{missing}: holds 0 of the 6 steps of the last checkpoint" in said(run)


def test_a_run_killed_before_its_first_step_has_a_checkpoint_to_go_back_to(
    runs, unbroken, lines, tmp_path
) -> None:
    run = tmp_path / "run"
    assert runs.status(run, die_at=line_of_step(lines, 2)) == -signal.SIGKILL
    assert os.listdir(run / "checkpoints") == ["step-000000"]
    assert len(figures(run)) == 2, "the first evaluation, and step 1"
    runs.finish(run)
    assert remains(run) == remains(unbroken)


def test_what_was_recorded_is_not_cut_where_no_checkpoint_is(runs, killed, tmp_path) -> None:
    """A run of an earlier version, killed before its first checkpoint; `serve` has such a test."""
    run = copied(killed, tmp_path)
    shutil.rmtree(run / "checkpoints")
    before = {name: (run / name).read_bytes() for name in ("groups.jsonl", "metrics.jsonl")}
    assert runs.status(run) == 2
    assert "the run recorded steps but has no checkpoint to resume from" in said(run)
    assert "Traceback" not in said(run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_finished_run_is_not_served_into(runs, unbroken) -> None:
    before = contents(unbroken)
    arguments = ["serve", "--env.run_dir", str(unbroken)]
    assert runs.forks.run(replace(runs.order(unbroken), arguments=arguments)) == 2
    assert "is a finished run and serves no more groups" in said(unbroken)
    assert contents(unbroken) == before


def test_a_run_is_scored_on_its_own_held_out_answers(runs, unbroken, killed, tmp_path) -> None:
    """The cache may hold other answers by then; here they are another teacher's."""
    run, cache = copied(killed, tmp_path), tmp_path / "cache"
    held_out = (run / "held_out.jsonl").read_text(encoding="utf-8")
    assert runs.status(run, cache=cache) == 0, said(run)
    assert (run / "held_out.jsonl").read_text(encoding="utf-8") == held_out
    evaluations = [row for row in figures(run) if "eval/hybrid_loss" in row]
    assert evaluations == [row for row in figures(unbroken) if "eval/hybrid_loss" in row]


def test_a_second_process_is_refused_in_one_line(runs, unbroken, teacher, tmp_path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    is_asked, may_answer = threading.Event(), threading.Event()

    def wait(asked: int) -> None:
        is_asked.set()
        may_answer.wait()

    teacher.on_request = wait
    first = runs.start(run, cache=cache)
    is_asked.wait()
    second = replace(runs.order(run, cache=cache), output=str(tmp_path / "second.out"))
    assert runs.forks.run(second) == 2
    said_second = said(tmp_path / "second")
    assert said_second == f"error: --env.run_dir '{run}': another process is using this run\n"
    may_answer.set()
    assert runs.forks.wait(first) == 0
    assert remains(run) == remains(unbroken)


@pytest.mark.parametrize("flag", ["env.total_steps 9", "env.checkpoints_kept 3"])
def test_other_flags_than_its_own_are_refused_in_one_line(runs, killed, flag) -> None:
    name, value = flag.split()
    assert runs.status(killed, f"--{name}", value) == 2
    assert said(killed).startswith(f"error: --{name} {value}")
    assert f"--env.run_dir '{killed}' resumes a run made with" in said(killed)
    assert said(killed).count("\n") == 1
