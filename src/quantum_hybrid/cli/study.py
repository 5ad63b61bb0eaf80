"""`study`: does the circuit help? Arms, rivals, seeds and a verdict, from a plan."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantum_hybrid.cli.command import command
from quantum_hybrid.errors import UsageError
from quantum_hybrid.output import say
from quantum_hybrid.paths import user_path, writable_cache_directory
from quantum_hybrid.processes.launch import Launch

if TYPE_CHECKING:
    from quantum_hybrid.study.conduct import Executor
    from quantum_hybrid.study.folder import StudyFolder
    from quantum_hybrid.study.plan import StudyPlan

HELP = "does the circuit help? train it and its rivals, and compare them"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which plan, where, and which part of it."""
    plan = parser.add_mutually_exclusive_group()
    plan.add_argument("--plan", metavar="FILE", help="plan of the study [the default plan]")
    plan.add_argument(
        "--quick", action="store_true", help="a small study in five minutes, which proves nothing"
    )
    parser.add_argument(
        "--study-dir",
        metavar="DIR",
        help="folder of the study; an interrupted one goes on [a new one under studies/]",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--ray", metavar="ADDRESS", help="tune, train and judge on a Ray cluster, or on `auto`"
    )
    part.add_argument(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="train only every Nth fit, from the Kth; all shards share the folder",
    )
    part.add_argument(
        "--merge", action="store_true", help="judge what all shards have trained, and report"
    )


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Begin a study or go on with one."""
    if namespace.study_dir is None and (namespace.shard or namespace.merge):
        raise UsageError("--shard and --merge need --study-dir, the folder that all shards share")
    path = _path(namespace.study_dir)
    writable_cache_directory()
    from quantum_hybrid.study.folder import opened
    from quantum_hybrid.study.plan import DEFAULT_PLAN

    plan = _plan(namespace)
    if namespace.shard is not None:
        _train_shard(path, plan, namespace.shard)
        return 0
    if namespace.merge and not (path / "study.json").is_file():
        raise UsageError(f"{path}: holds no study whose shards could be merged")
    with _executor(namespace.ray) as executor, opened(path, plan, DEFAULT_PLAN) as study:
        _conduct(study, executor, is_merge=namespace.merge)
    return 0


@contextmanager
def _executor(ray: str | None) -> Iterator[Executor]:
    """What runs the tasks: processes of this machine, or a Ray cluster."""
    if ray is None:
        from quantum_hybrid.study.execution import execute

        yield execute
        return
    from quantum_hybrid.study.cluster import Cluster

    with Cluster(ray) as cluster:
        yield cluster.execute


def _conduct(study: StudyFolder, executor: Executor, *, is_merge: bool) -> None:
    """All stages; of a merge only those after the fits."""
    from quantum_hybrid.report.study_summary import study_lines
    from quantum_hybrid.study.conduct import Conductor

    conductor = Conductor(study, say, executor)
    with conductor.stopping_in_order():
        conductor.introduce()
        if not is_merge:
            conductor.prepare()
            conductor.tune_and_fit()
        conductor.judge()
        results = conductor.report()
    say("\n".join(study_lines(results)))
    say(f"page      {study.page}")


def _train_shard(path: Path, plan: StudyPlan | None, shard: Shard) -> None:
    """Its share of the fits, after what all shards need and the first of them does."""
    from quantum_hybrid.study.conduct import Conductor
    from quantum_hybrid.study.folder import opened, shard_of
    from quantum_hybrid.study.plan import DEFAULT_PLAN

    say(f"shard     {shard} of {path}: the first shard prepares the study, others wait for it")
    with opened(path, plan, DEFAULT_PLAN, waits=True) as study:
        conductor = Conductor(study, say, keeps_page=False)
        with conductor.stopping_in_order():
            conductor.prepare()
            conductor.tune()
    of_shard = shard_of(study, f"shard-{shard.number}-of-{shard.count}")
    with of_shard, conductor.stopping_in_order():
        conductor.fit(slice(shard.number - 1, None, shard.count))
    merge = command(1, "study", "--study-dir", str(path), "--merge")
    say(f"shard     {shard} is trained; when all are: {merge}")


@dataclass(frozen=True)
class Shard:
    """One of several processes that share the fits of a study."""

    number: int
    """From 1."""
    count: int

    def __str__(self) -> str:
        """As it is given."""
        return f"{self.number}/{self.count}"


def _shard(text: str) -> Shard:
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be K/N, K from 1 to N")


def _plan(namespace: argparse.Namespace) -> StudyPlan | None:
    """The plan that the user named, if any."""
    from quantum_hybrid.study.plan import QUICK_PLAN, read_plan

    if namespace.plan is not None:
        return read_plan(namespace.plan)
    return QUICK_PLAN if namespace.quick else None


def _path(named: str | None) -> Path:
    if named is None:
        return Path("studies") / time.strftime("%Y%m%d-%H%M%S")
    if named == "":  # It would stand for the working directory.
        raise UsageError("--study-dir '': must name a folder, a new one or that of a study")
    return user_path(named, f"--study-dir {named!r}")
