"""The main job on a tiny student, and its files; a helper of the tests of resuming."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from forked_runs import ForkServer, Line, Order
from processes import free_port, launch
from quantum_hybrid.run.tracking import read_metrics

STEPS = 8
VOLATILE = ("time_s", "train/tokens_per_second")
TOLD_OF_TIME = {
    "config.json",
    "log.txt",
    "metrics.jsonl",
    "summary.json",
    "teacher.json",
    "curves.png",
}
OF_THE_PROCESSES = ("seconds", "teacher")
"""What summary.json says of the processes, and not of the run."""


@dataclass(frozen=True)
class Runs:
    """Starts runs and waits for them."""

    forks: ForkServer
    flags: list[str]
    cache: Path
    """With every answer in it."""

    def order(
        self,
        run: Path,
        *flags: str,
        cache: Path | None = None,
        told: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Order:
        """The order for a run directory; `told` are the launcher's variables."""
        arguments = ["process", "--env.run_dir", str(run), *self.flags, *flags]
        environment = {
            "QUANTUM_HYBRID_CACHE": str(cache or self.cache),
            "NUMBA_CACHE_DIR": str(self.cache / "numba"),
            **(told or {}),
        }
        return Order(arguments, environment, fields.pop("output", f"{run}.out"), **fields)

    def start(self, run: Path, *flags: str, **fields: Any) -> int:
        """The pid of a run that has been started."""
        return self.forks.start(self.order(run, *flags, **fields))

    def status(self, run: Path, *flags: str, **fields: Any) -> int:
        """The exit status of a run."""
        return self.forks.run(self.order(run, *flags, **fields))

    def statuses(self, run: Path, *flags: str, size: int, **of_ranks: Any) -> list[int]:
        """Exit statuses of a run's processes; `rank1={...}` are fields of the second one's order.

        Only the first process's output is that of the run.
        """
        port, pids = free_port(), []
        for rank in range(size):
            output = f"{run}.out" if rank == 0 else f"{run}.{rank}.out"
            fields = {"output": output} | of_ranks.get(f"rank{rank}", {})
            told = launch(rank, size, port)
            pids.append(self.start(run, *flags, told=told, **fields))
        return [self.forks.wait(pid) for pid in pids]

    def finish(self, run: Path, *flags: str, **fields: Any) -> None:
        """Run to the end."""
        assert self.status(run, *flags, **fields) == 0, said(run)


def line_of_step(lines: list[Line], step: int) -> Line:
    """A line in the middle of a training step."""
    once_a_step = (line for line in lines if line.file.endswith("training/step.py"))
    line = next(line for line in once_a_step if (line.activity, line.count) == ("training", STEPS))
    return line._replace(count=step)


def said(run: Path) -> str:
    return Path(f"{run}.out").read_text(encoding="utf-8")


def figures(run: Path) -> list[dict[str, Any]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars, except the speed."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    names = set(events.Tags()["scalars"]) - {*VOLATILE}
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in sorted(names)}


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def remains(run: Path) -> dict[str, Any]:
    """A run's results without times: weights, optimiser, text, figures, names of files."""
    views = ("tensorboard/", "wandb/")
    files = {name: value for name, value in contents(run).items() if not name.startswith(views)}
    names = list(files)
    for name in TOLD_OF_TIME:
        del files[name]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {
        "names": names,
        "files": files,
        "figures": figures(run),
        "tensorboard": scalars(run),
        "summary": {k: v for k, v in summary.items() if k not in OF_THE_PROCESSES},
    }


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def is_one_line(run: Path) -> bool:
    """Whether the run ended with one line of error and no stack trace."""
    is_error = [line.startswith("error: ") for line in said(run).splitlines()]
    return sum(is_error) == 1 and is_error[-1] and "Traceback" not in said(run)
