"""A run that is stopped at any moment, in any way, ends like an unbroken one.

Runs of the real command on a tiny student with a teacher on loopback, in processes of their own.
The place where a run is killed is drawn with a fixed seed from all lines that an unbroken run
executes, some in each of its activities; no test waits for a moment to come. Then the run is
resumed and its results are compared bit for bit with those of the unbroken run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from itertools import cycle

import pytest

from quantum_hybrid.config import ServerConfig
from quantum_hybrid.run.tracking import read_metrics
from tiny_runs import STEPS, is_one_line, line_of_step, remains, said
from wandb_files import history

KILLS = {
    "start-up": 10,
    "between": 8,
    "training": 9,
    "evaluation": 7,
    "checkpoint": 11,
    "student": 4,
    "report": 3,
}
"""How many runs are killed while they do what."""


@pytest.mark.slow
@pytest.mark.parametrize(("activity", "number"), [(a, n) for a in KILLS for n in range(KILLS[a])])
def test_a_run_killed_at_any_line_ends_as_an_unbroken_one(
    runs, unbroken, draw, tmp_path, activity, number
) -> None:
    line, run = draw(activity, number), tmp_path / "run"
    assert runs.status(run, die_at=line) == -signal.SIGKILL, line
    runs.finish(run)
    assert remains(run) == remains(unbroken), line


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_so_too(runs, unbroken, lines, draw, tmp_path) -> None:
    generator, run = random.Random(0), tmp_path / "run"
    for step in (3, 2):  # of those that it takes itself: certain to come, whatever was drawn
        assert runs.status(run, die_at=line_of_step(lines, step)) == -signal.SIGKILL
    for _ in range(6):
        line = draw(generator.choice([*KILLS]), generator.randrange(1000))
        assert runs.status(run, die_at=line) in (-signal.SIGKILL, 0), said(run)
    runs.finish(run)
    assert remains(run) == remains(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activity", "number"), [*zip(KILLS, cycle([signal.SIGINT, signal.SIGTERM]))]
)
def test_a_run_stopped_by_a_signal_at_any_line_ends_as_an_unbroken_one(
    runs, unbroken, draw, tmp_path, activity, number
) -> None:
    line, run = draw(activity, 1000 + number), tmp_path / "run"
    status = runs.status(run, die_at=line, signal=number)
    # SIGTERM before the run listens for it kills at once; both may come too late to stop anything.
    assert status in (128 + number, -signal.SIGTERM, 0), said(run)
    assert "Traceback" not in said(run)
    assert status <= 0 or is_one_line(run), said(run)
    runs.finish(run)
    assert remains(run) == remains(unbroken), line


def test_a_run_killed_in_the_middle_of_a_write_leaves_nothing_half_written(
    runs, unbroken, tmp_path, too_large
) -> None:
    run = tmp_path / "run"
    assert runs.status(run, largest_file=too_large) == -signal.SIGXFSZ, said(run)
    assert len([*run.rglob(".*.tmp")]) == 1
    runs.finish(run)
    assert remains(run) == remains(unbroken)


@pytest.fixture(scope="module")
def n_requests(runs, tmp_path_factory) -> int:
    """Number of requests of a run with an empty cache."""
    folder = tmp_path_factory.mktemp("asks_for_all")
    runs.finish(folder / "run", cache=folder / "cache")
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    return summary["teacher"]["requests"]


@pytest.mark.parametrize("number", [1, 6, 11])
def test_a_run_killed_while_the_teacher_writes_asks_again_for_that_only(
    runs, unbroken, n_requests, teacher, tmp_path, number
) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    pids: list[int] = []
    is_started = threading.Event()

    def kill(asked: int) -> None:
        if asked == number:
            is_started.wait()
            os.kill(pids[0], signal.SIGKILL)

    teacher.on_request = kill
    pids.append(runs.start(run, cache=cache))
    is_started.set()
    assert runs.forks.wait(pids[0]) == -signal.SIGKILL
    runs.finish(run, cache=cache)
    assert remains(run) == remains(unbroken)
    assert teacher.asked <= n_requests + ServerConfig().num_max_requests_at_once


def test_weights_and_biases_has_every_step_once(runs, lines, tmp_path) -> None:
    """The newest directory has every step; a killed process's unfinished write is in none."""
    last_step = line_of_step(lines, STEPS)
    run, online = tmp_path / "run", ("--env.use_wandb", "true")
    assert runs.status(run, *online, die_at=last_step) == -signal.SIGKILL
    runs.finish(run, *online)
    logged: dict[int, dict[str, float]] = {}
    for row in read_metrics(run / "metrics.jsonl"):
        step = logged.setdefault(row.pop("step"), {})
        step.update({name: value for name, value in row.items() if name != "time_s"})
    assert len(logged) == STEPS + 1
    first, second = sorted((run / "wandb").glob("offline-run-*"))
    assert first.name[-12:] == second.name[-12:], "the same run_id"
    assert history(second) == list(logged.values())
