"""A run's directory: it explains itself, belongs to one process at a time, and can be resumed.

config.json      what was asked for, by which code, with which versions, on what machine
log.txt          what was shown to a person, with times
metrics.jsonl    every metric, one line a step; also in tensorboard/ and wandb/
groups.jsonl     the teacher's answers as scored Atropos groups, with groups.html to read them
teacher.json     what was asked of the teacher, what went wrong, what it cost
held_out.jsonl   the held-out answers that the evaluations use
checkpoints/     the last ones, each written atomically
student/         the trained student, for HybridForCausalLM.from_pretrained
summary.json     first and last figures; its presence means that the run is complete
curves.png       the picture of metrics.jsonl
device-NAME.json what `quantum-hybrid device` found on a device, if it was asked
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from quantum_hybrid.config import RunConfig, ServerConfig, user_path
from quantum_hybrid.durable import NO_ROOM, sync, write_bytes, write_json
from quantum_hybrid.errors import CheckpointError, UsageError, WriteError
from quantum_hybrid.run.plan import RunPlan
from quantum_hybrid.run.provenance import description
from quantum_hybrid.run.tracking import truncate_metrics
from quantum_hybrid.text.records import Answer, Prompt


@dataclass(frozen=True)
class RunDirectory:
    """The open directory of one run; no other process can open it meanwhile."""

    path: Path
    config: RunConfig
    server: ServerConfig
    resumes: bool

    @classmethod
    @contextmanager
    def open(cls, plan: RunPlan) -> Iterator[RunDirectory]:
        """Create or reopen the directory and hold its lock."""
        field = f"`run_dir` {str(plan.path)!r}"
        try:
            plan.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{field}: cannot be written: {error.strerror}") from error
        try:
            with FileLock(plan.path / ".lock", timeout=0):
                run = cls(plan.path, plan.config, plan.server, plan.resumes)
                if not plan.resumes:
                    if (plan.path / "config.json").exists():
                        raise UsageError(f"{field}: another process made a run here meanwhile")
                    write_json(plan.path / "config.json", description(plan.config, plan.server))
                yield run
        except Timeout as error:
            raise UsageError(f"{field}: another process is using this run") from error
        except PermissionError as error:
            if error.filename is None or not str(error.filename).startswith(str(plan.path)):
                raise
            raise UsageError(f"{field}: cannot be written: {error.strerror}") from error
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise WriteError(
                f"{plan.path}: cannot be written: {error.strerror}; what was kept before is "
                "whole: make room, and go on",
                resumable_run=plan.path,
            ) from error

    @property
    def metrics_path(self) -> Path:
        """Where every metric goes."""
        return self.path / "metrics.jsonl"

    @property
    def groups_path(self) -> Path:
        """Where the scored groups go."""
        named = self.config.data_path_to_save_groups
        if not named:
            return self.path / "groups.jsonl"
        return user_path(named, f"`data_path_to_save_groups` {named!r}")

    @property
    def run_id(self) -> str:
        """Identity of the run on tracking services, drawn when its directory was made."""
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))["run_id"]

    def read_summary(self) -> dict[str, Any]:
        """What a complete run came to."""
        return json.loads((self.path / "summary.json").read_text(encoding="utf-8"))

    @property
    def is_complete(self) -> bool:
        """Whether the run has already been brought to its end."""
        return (self.path / "summary.json").is_file()

    def refuse_records(self) -> None:
        """A `CheckpointError` if steps were recorded: a run without a checkpoint cannot go on from
        them, and nothing that was recorded is cut unless a checkpoint is there to cut it back to.
        """
        for path in (self.metrics_path, self.groups_path):
            if path.exists() and path.stat().st_size > 0:
                raise CheckpointError(
                    f"{path}: the run recorded steps and has no checkpoint to go on from; nothing "
                    "was changed: name a new run_dir, answers in the cache cost nothing again"
                )

    def truncate(self, step: int) -> None:
        """Go back to the checkpoint of this step: cut what was recorded after it.

        Step 0 is before the first evaluation. Raises `CheckpointError` where something is missing
        that was recorded up to the step.
        """
        n_metrics = truncate_metrics(self.metrics_path, step if step else -1)
        n_groups = 0
        if self.groups_path.exists():
            lines = self.groups_path.read_bytes().splitlines(keepends=True)[:step]
            write_bytes(self.groups_path, b"".join(lines))
            n_groups = len(lines)
        for path, n_found in ((self.metrics_path, n_metrics), (self.groups_path, n_groups)):
            if n_found < step:
                raise CheckpointError(
                    f"{path}: holds {n_found} of the {step} steps of the last checkpoint; start a "
                    "new run to train from the beginning"
                )

    def sync(self) -> None:
        """Wait until the metrics and the groups that were written are on the disk."""
        for path in (self.metrics_path, self.groups_path):
            if path.exists():
                sync(path)

    @property
    def has_held_out(self) -> bool:
        """Whether the held-out answers were drawn; the run is scored on these to its end."""
        return (self.path / "held_out.jsonl").is_file()

    def write_held_out(self, pairs: Sequence[tuple[Prompt, Answer]]) -> None:
        """Keep the held-out answers beside the figures that were computed from them."""
        rows = [json.dumps({"prompt": asdict(p), "answer": asdict(a)}) + "\n" for p, a in pairs]
        write_bytes(self.path / "held_out.jsonl", "".join(rows).encode("utf-8"))

    def read_teacher_account(self) -> dict[str, Any] | None:
        """What earlier starts of the run asked of the teacher; None if there was none."""
        file = self.path / "teacher.json"
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read ({error})") from error

    def write_teacher_account(self, fields: Mapping[str, Any]) -> None:
        """Keep what all starts so far asked of the teacher."""
        write_json(self.path / "teacher.json", fields)


def finished_run(run: str) -> Path:
    """The directory of a run that has come to its end; a `UsageError` for any other."""
    path = user_path(run, f"`run` {run!r}")
    if not (path / "config.json").is_file():
        raise UsageError(f"`run` {run!r}: no such run")
    if not (path / "summary.json").is_file():
        raise UsageError(f"`run` {run!r}: is not finished", resumable_run=path)
    return path


def read_held_out(path: Path) -> list[tuple[Prompt, Answer]]:
    """What `write_held_out` kept in the run of this path."""
    file = path / "held_out.jsonl"
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if not rows:
            raise ValueError("it is empty")
        return [(Prompt(**row["prompt"]), Answer.from_fields(row["answer"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read as a run's held-out answers") from error
