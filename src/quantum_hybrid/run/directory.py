"""The directory of a run: its files, and the lock that gives it to one process at a time.

config.json      settings, command, commit, package versions, machine
prompts.jsonl    the prompts, if the run was given a file of them
log.txt          console output, with times
metrics.jsonl    every metric, as lines of JSON; also in tensorboard/ and wandb/
groups.jsonl     the teacher's answers as scored Atropos groups; groups.html shows them
teacher.json     requests, faults and cost of the teacher
held_out.jsonl   the held-out answers that the evaluations use
checkpoints/     the last checkpoints, each written atomically
student/         the trained student, for HybridForCausalLM.from_pretrained
summary.json     first and last held-out figures; its presence means that the run is complete
curves.png       plots of metrics.jsonl
device-NAME.json results of `quantum-hybrid device`, if it was run
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.durable import NO_ROOM, sync, write_bytes, write_json
from quantum_hybrid.errors import CheckpointError, UsageError, WriteError
from quantum_hybrid.paths import user_path
from quantum_hybrid.run.plan import RunPlan
from quantum_hybrid.run.provenance import description
from quantum_hybrid.run.tracking import truncate_metrics
from quantum_hybrid.text import Answer, Prompt, PromptSet, PromptsFile


@dataclass(frozen=True)
class RunDirectory:
    """The open directory of one run. While it is open no other process can open it."""

    path: Path
    config: RunConfig
    server: ServerConfig
    resumes: bool
    trainer: str | None
    """Address of the Atropos API that the run was begun to serve; None for a run of `process`."""
    prompts: PromptSet
    prompts_file: PromptsFile | None
    """The file that the prompts were read from just now; None for built-in or resumed ones."""

    @classmethod
    @contextmanager
    def open(cls, plan: RunPlan) -> Iterator[RunDirectory]:
        """Create or reopen the directory and hold its lock within the block.

        Raises `UsageError` if another process holds the lock or the directory cannot be written,
        and `WriteError` if the disk is full. After a `UsageError` from the block, a new run without
        records is removed.
        """
        field = f"`run_dir` {str(plan.path)!r}"
        try:
            made = [folder for folder in (plan.path, *plan.path.parents) if not folder.exists()]
            plan.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{field}: cannot be written: {error.strerror}") from error
        try:
            with FileLock(plan.path / ".lock", timeout=0):
                run = cls(
                    plan.path,
                    plan.config,
                    plan.server,
                    plan.resumes,
                    plan.trainer,
                    plan.prompts,
                    plan.prompts_file,
                )
                if not plan.resumes:
                    if (plan.path / "config.json").exists():
                        raise UsageError(f"{field}: another process has just created a run here")
                    run._write_prompts()  # Before config.json, which makes this a run.
                    content = description(plan.config, plan.server, plan.trainer, plan.prompts_file)
                    write_json(plan.path / "config.json", content)
                with run._removed_if_refused(made):
                    yield run
        except Timeout as error:
            raise UsageError(f"{field}: another process is using this run") from error
        except PermissionError as error:
            # The lock names its file by an absolute path, also for a relative run_dir.
            named = error.filename and Path(error.filename).absolute()
            if not named or not named.is_relative_to(plan.path.absolute()):
                raise
            raise UsageError(f"{field}: cannot be written: {error.strerror}") from error
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise WriteError(
                f"{plan.path}: cannot be written: {error.strerror}; files written before are "
                "intact: free some space and resume",
                resumable_run=plan.path,
            ) from error

    @contextmanager
    def _removed_if_refused(self, made: Sequence[Path]) -> Iterator[None]:
        """Remove a new run, and the folders made for it, at a `UsageError` before its first record.

        Some settings can be checked only with the model or the teacher at hand. A run keeps its
        settings, so it could never start.
        """
        try:
            yield
        except UsageError:
            if not self.resumes and not self._records():
                with suppress(OSError):  # Another process may have put something there.
                    for entry in self.path.iterdir():
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                    for folder in made:
                        folder.rmdir()
            raise

    def _write_prompts(self) -> None:
        """Store the prompts that were read from a file as prompts.jsonl."""
        if self.prompts_file is not None:
            write_bytes(self.path / "prompts.jsonl", self.prompts.as_lines())

    @property
    def metrics_path(self) -> Path:
        """Path of metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def groups_path(self) -> Path:
        """Path of the scored groups; `data_path_to_save_groups` may name it."""
        named = self.config.data_path_to_save_groups
        if not named:
            return self.path / "groups.jsonl"
        return user_path(named, f"`data_path_to_save_groups` {named!r}")

    @property
    def run_id(self) -> str:
        """Id of the run on tracking services, drawn at random when the directory was created."""
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))["run_id"]

    def read_summary(self) -> dict[str, Any]:
        """The content of a complete run's summary.json. Raises `CheckpointError` if damaged."""
        file = self.path / "summary.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{file}: cannot be read: {error}") from error

    @property
    def is_complete(self) -> bool:
        """Whether the run has reached its end."""
        return (self.path / "summary.json").is_file()

    def refuse_records(self) -> None:
        """Raise `CheckpointError` if metrics or groups are recorded.

        A run without a checkpoint cannot continue from them, and records are cut only when there is
        a checkpoint to cut them back to.
        """
        if records := self._records():
            raise CheckpointError(
                f"{records[0]}: the run recorded steps but has no checkpoint to resume from; "
                "nothing was changed: name a new run_dir; cached answers are free"
            )

    def _records(self) -> list[Path]:
        """Those of the files of metrics and groups that hold something."""
        files = (self.metrics_path, self.groups_path)
        return [path for path in files if path.exists() and path.stat().st_size > 0]

    def truncate(self, step: int) -> None:
        """Cut the metrics and groups recorded after the checkpoint of this step.

        The checkpoint of step 0 is older than the first evaluation, so nothing is kept for it.
        Raises `CheckpointError` if records of earlier steps are missing.
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
        """Wait until the metrics and groups written so far are on the disk."""
        for path in (self.metrics_path, self.groups_path):
            if path.exists():
                sync(path)

    @property
    def has_held_out(self) -> bool:
        """Whether the held-out answers are stored. Every evaluation of the run uses these."""
        return (self.path / "held_out.jsonl").is_file()

    def write_held_out(self, pairs: Sequence[tuple[Prompt, Answer]]) -> None:
        """Store the held-out answers with their prompts as held_out.jsonl."""
        rows = [json.dumps({"prompt": asdict(p), "answer": asdict(a)}) + "\n" for p, a in pairs]
        write_bytes(self.path / "held_out.jsonl", "".join(rows).encode("utf-8"))

    def read_teacher_account(self) -> dict[str, Any] | None:
        """The account of earlier starts of the run; None if there is none.

        Raises `CheckpointError` if it cannot be read.
        """
        file = self.path / "teacher.json"
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read ({error})") from error

    def write_teacher_account(self, fields: Mapping[str, Any]) -> None:
        """Store the account of all starts so far."""
        write_json(self.path / "teacher.json", fields)


def finished_run(run: str) -> Path:
    """The directory of a complete run. Raises `UsageError` for any other."""
    path = user_path(run, f"`run` {run!r}")
    if not (path / "config.json").is_file():
        raise UsageError(f"`run` {run!r}: no such run")
    if not (path / "summary.json").is_file():
        raise UsageError(f"`run` {run!r}: is not finished", resumable_run=path)
    return path


def read_held_out(path: Path) -> list[tuple[Prompt, Answer]]:
    """The pairs that `write_held_out` stored in this run directory.

    Raises `CheckpointError` if the file is missing, empty or damaged.
    """
    file = path / "held_out.jsonl"
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if not rows:
            raise ValueError("it is empty")
        return [(Prompt(**row["prompt"]), Answer.from_fields(row["answer"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read as a run's held-out answers") from error
