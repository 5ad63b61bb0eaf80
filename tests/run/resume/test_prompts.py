"""Runs on a person's own prompts: they use these only, and resume without the file."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from quantum_hybrid.config import RunConfig
from quantum_hybrid.run.directory import read_held_out
from quantum_hybrid.text import PromptSet, split_of
from quantum_hybrid.training import Learner
from tiny_runs import STEPS, contents, copied, figures, is_one_line, line_of_step, remains, said

ANIMALS = ("fox", "hedgehog", "barnacle", "cuckoo", "salamander", "walrus", "moth", "gnu", "eel")
PLACES = ("orchard", "lighthouse", "quarry", "tram", "bakery", "swamp", "museum", "yurt", "fjord")
TEXTS = [f"{animal} and {place}?" for animal in ANIMALS for place in PLACES]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A file of 81 prompts, and one that repeats the first."""
    path = tmp_path_factory.mktemp("own") / "prompts.txt"
    path.write_text("\n".join([*TEXTS, TEXTS[0].upper()]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken_own(runs, file, tmp_path_factory) -> Path:
    """An unbroken run on the file's prompts."""
    run = tmp_path_factory.mktemp("own unbroken") / "run"
    runs.finish(run, "--env.prompts", str(file))
    return run


@pytest.fixture(scope="module")
def killed_own(runs, lines, file, unbroken_own, tmp_path_factory) -> Path:
    """A run on the same prompts, killed at its last step; the file is another one by now."""
    folder = tmp_path_factory.mktemp("own killed")
    changed = Path(shutil.copy(file, folder / "prompts.txt"))
    run, died = folder / "run", line_of_step(lines, STEPS)
    assert runs.status(run, "--env.prompts", str(changed), die_at=died) == -signal.SIGKILL
    changed.write_text("Another file.", encoding="utf-8")
    return run


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_asks_the_prompts_of_its_file_only_and_keeps_them(file, unbroken_own) -> None:
    kept = PromptSet.from_lines((unbroken_own / "prompts.jsonl").read_bytes())
    assert [prompt.text for prompt in kept.prompts] == TEXTS
    asked = [row["messages"][0][0]["content"] for row in json_lines(unbroken_own / "groups.jsonl")]
    held_out = [row["prompt"]["text"] for row in json_lines(unbroken_own / "held_out.jsonl")]
    assert len(asked) == STEPS
    assert {split_of(text) for text in asked} == {"train"}
    assert {split_of(text) for text in held_out} == {"test"}
    assert {*asked, *held_out} <= {*TEXTS}
    config = json.loads((unbroken_own / "config.json").read_text(encoding="utf-8"))
    assert config["env"]["prompts"] == config["prompts"]["path"] == str(file)
    assert config["prompts"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    sizes = ", ".join(f"{n} {split}" for split, n in kept.sizes().items())
    line = f"prompts   81 of {file}: {sizes}; left out: 0 repeated, 1 near-duplicates"
    assert line in said(unbroken_own).splitlines()


def test_the_head_is_calibrated_on_prompts_of_the_file(unbroken_own) -> None:
    """The figures before the first step are those of a learner built on these prompts."""
    env = json.loads((unbroken_own / "config.json").read_text(encoding="utf-8"))["env"]
    kept = PromptSet.from_lines((unbroken_own / "prompts.jsonl").read_bytes())
    calibration = kept.in_split("train", env["seed"])[-8:]  # as many as forked runs take
    learner = Learner(RunConfig(**env), calibration)
    pairs = read_held_out(unbroken_own)
    found = learner.evaluate([learner.encoder.example(*pair) for pair in pairs])
    logged = figures(unbroken_own)[0]
    for name in ("eval/hybrid_loss", "eval/classical_loss", "eval/quantum_loss"):
        assert logged[name] == pytest.approx(found[name], rel=1e-5), name


def test_a_run_on_the_built_in_prompts_keeps_no_copy_of_them(unbroken) -> None:
    assert not (unbroken / "prompts.jsonl").exists()
    config = json.loads((unbroken / "config.json").read_text(encoding="utf-8"))
    assert (config["env"]["prompts"], config["prompts"]) == (None, None)
    assert "prompts   " not in said(unbroken)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_run_goes_on_with_the_prompts_that_it_began_with(
    runs, killed_own, unbroken_own, tmp_path, is_named
) -> None:
    run = copied(killed_own, tmp_path)
    named = ["--env.prompts", str(killed_own.parent / "prompts.txt")] if is_named else []
    runs.finish(run, *named)
    assert remains(run) == remains(unbroken_own)


def test_a_run_is_evaluated_without_the_file(runs, killed_own, tmp_path) -> None:
    run = copied(killed_own, tmp_path)
    order = runs.order(run, cache=tmp_path / "no cache")
    arguments = ["evaluate", "--env.run_dir", str(run)]
    assert runs.forks.run(replace(order, arguments=arguments)) == 0, said(run)
    assert "checkpoint of step 6, 4 held-out answers" in said(run)


def test_another_file_is_refused(runs, killed_own, file, tmp_path) -> None:
    run = copied(killed_own, tmp_path)
    assert runs.status(run, "--env.prompts", str(file)) == 2
    assert is_one_line(run), said(run)
    assert f"error: --env.prompts {file}: --env.run_dir '{run}' resumes a run made" in said(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "a", "category": "c", "text": "Other."}\n', "does not hold the prompts that the"),
        (b"", "does not hold the prompts that the"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_damaged_copy_is_named(runs, killed_own, tmp_path, content, message) -> None:
    run = copied(killed_own, tmp_path)
    if content is None:
        (run / "prompts.jsonl").unlink()
    else:
        (run / "prompts.jsonl").write_bytes(content)
    before = contents(run)
    assert runs.status(run) == 2
    assert is_one_line(run), said(run)
    assert f"error: {run / 'prompts.jsonl'}: {message}" in said(run)
    assert contents(run) == before


def test_a_run_that_was_killed_while_it_was_created_can_be_started_again(
    runs, unbroken_own, file, tmp_path
) -> None:
    """Its directory holds the lock and the prompts; a person's directory holds no lock."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(unbroken_own / "prompts.jsonl", run)
    assert runs.status(run, "--env.prompts", str(file)) == 2
    assert "holds other files and no run" in said(run)
    (run / ".lock").touch()
    runs.finish(run, "--env.prompts", str(file))
    assert remains(run) == remains(unbroken_own)


def test_two_processes_leave_the_answers_and_scores_of_one(
    runs, file, unbroken_own, tmp_path
) -> None:
    run = tmp_path / "run"
    assert runs.statuses(run, "--env.prompts", str(file), size=2) == [0, 0], said(run)
    alone, together = (
        (path / "groups.jsonl").read_text(encoding="utf-8").splitlines()
        for path in (unbroken_own, run)
    )
    for one, other in zip(alone, together, strict=True):
        assert json.loads(one)["messages"] == json.loads(other)["messages"]
        assert json.loads(one)["scores"] == pytest.approx(json.loads(other)["scores"], abs=2e-3)
