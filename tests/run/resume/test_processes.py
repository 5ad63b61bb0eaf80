"""Runs on several processes: equal to one process, resumable, and clear when one is lost.

The processes are forked with the variables that `torchrun` would set. The last tests use `torchrun`
itself.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from forked_runs import Line, recorded_lines
from tiny_runs import Runs, figures, is_one_line, line_of_step, remains, said

ROOT = Path(__file__).parents[3]
SIZE = 2
FLAGS = ("--env.group_size", "3")
"""So that the processes' shares differ."""


def figure_rows_agree(run: Path, other: Path, tolerance: float) -> None:
    ours, theirs = figures(run), figures(other)
    assert len(ours) == len(theirs)
    for got, expected in zip(ours, theirs, strict=True):
        assert got == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.fixture(scope="module")
def together(runs, tmp_path_factory) -> Path:
    """An unbroken run on two processes."""
    run = tmp_path_factory.mktemp("together") / "run"
    assert runs.statuses(run, *FLAGS, size=SIZE) == [0, 0], said(run)
    return run


def test_two_processes_leave_the_run_that_one_leaves(runs, together, tmp_path) -> None:
    run = tmp_path / "run"
    runs.finish(run, *FLAGS)
    figure_rows_agree(together, run, 2e-3)
    assert remains(together)["names"] == remains(run)["names"]
    groups = [
        (path / "groups.jsonl").read_text(encoding="utf-8").count("\n") for path in (together, run)
    ]
    assert groups[0] == groups[1]
    assert Path(f"{together}.1.out").read_text(encoding="utf-8") == "", (
        "the first process is the one that speaks"
    )


def test_the_same_run_on_two_processes_leaves_the_same_bits(runs, together, tmp_path) -> None:
    run = tmp_path / "run"
    assert runs.statuses(run, *FLAGS, size=SIZE) == [0, 0]
    assert remains(run) == remains(together)
    assert runs.statuses(run, *FLAGS, size=SIZE) == [0, 0]
    assert "is complete; nothing was done" in said(run)


@pytest.fixture(scope="module")
def lines_of_ranks(runs, tmp_path_factory) -> list[list[Line]]:
    """Each process's line executions in its training steps; their shares of a group differ."""
    folder = tmp_path_factory.mktemp("recorded_of_ranks")
    records = [folder / f"{rank}.json" for rank in range(SIZE)]
    recording = {f"rank{rank}": {"record": str(path)} for rank, path in enumerate(records)}
    assert runs.statuses(folder / "run", *FLAGS, size=SIZE, **recording) == [0, 0]
    return [
        [line for line in recorded_lines(path) if line.activity == "training"] for path in records
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rank", range(SIZE))
@pytest.mark.parametrize("seed", range(4))
def test_a_run_of_which_a_process_is_killed_ends_as_an_unbroken_one(
    runs, together, lines_of_ranks, tmp_path, rank, seed
) -> None:
    """The other process notices it and reports one line; nothing is lost."""
    generator, run = random.Random(f"{rank} {seed}"), tmp_path / "run"
    line = generator.choice(lines_of_ranks[rank])
    line = line._replace(count=generator.randint(1, max(1, line.count // 2)))
    killed = {f"rank{rank}": {"die_at": line}}
    statuses = runs.statuses(run, *FLAGS, size=SIZE, **killed)
    assert statuses[rank] == -signal.SIGKILL, line
    assert statuses[1 - rank] == 1
    if rank == 1:
        assert is_one_line(run), said(run)
        assert "another process of this run has ended" in said(run)
    assert runs.statuses(run, *FLAGS, size=SIZE) == [0, 0], said(run)
    assert remains(run) == remains(together), line


def test_a_run_stopped_by_a_signal_stops_in_all_and_goes_on(
    runs, together, lines, tmp_path
) -> None:
    run = tmp_path / "run"
    at = {"die_at": line_of_step(lines, 3), "signal": signal.SIGTERM}
    assert runs.statuses(run, *FLAGS, size=SIZE, rank0=at) == [128 + signal.SIGTERM, 0], said(run)
    assert is_one_line(run)
    assert runs.statuses(run, *FLAGS, size=SIZE) == [0, 0], said(run)
    assert remains(run) == remains(together)


def test_what_is_wrong_is_said_once_and_by_the_first(runs, tmp_path) -> None:
    run = tmp_path / "run"
    wrong = ("--env.drop_layers", "1-9")
    assert runs.statuses(run, *FLAGS, *wrong, size=SIZE) == [2, 0], said(run)
    assert is_one_line(run)
    assert Path(f"{run}.1.out").read_text(encoding="utf-8") == ""


def start(
    runs: Runs, run: Path, *launcher: str, cache: Path | None = None
) -> subprocess.Popen[bytes]:
    """The command as a person starts it, by plain Python or another launcher."""
    order = runs.order(run, *FLAGS, cache=cache)
    command = [sys.executable, *launcher, str(ROOT / "atropos.py"), *order.arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | order.environment
    with Path(order.output).open("w", encoding="utf-8") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_torchrun_starts_stops_and_resumes_it(runs, teacher, tmp_path) -> None:
    """Ctrl-C reaches `torchrun`, which forwards it."""
    started: list[subprocess.Popen[bytes]] = []
    several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(SIZE))
    alone, run, cache = tmp_path / "alone", tmp_path / "run", tmp_path / "cache"
    assert start(runs, alone).wait() == 0, said(alone)
    is_started, before = threading.Event(), teacher.asked

    def interrupt(asked: int) -> None:
        if asked == before + 8:
            is_started.wait()
            started[0].send_signal(signal.SIGINT)

    teacher.on_request = interrupt
    started.append(start(runs, run, *several, cache=cache))
    is_started.set()
    assert started[0].wait() == 1
    assert "error: stopped by SIGINT" in said(run)
    again = f"torchrun ... {shlex.quote(str(ROOT / 'atropos.py'))} process --env.run_dir {run}"
    assert again in said(run)
    assert start(runs, run, *several, cache=cache).wait() == 0, said(run)
    figure_rows_agree(run, alone, 2e-3)
