"""A run in progress and the resources it holds: console, teacher, student, records, trackers.

    async with RunSession(run) as session:
        await session.to_its_end(distil)

The training loop is an argument: that of `process` or that of Atropos. The session handles SIGINT
and SIGTERM throughout. Afterwards the run directory is either complete or can be resumed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from transformers.utils import logging as transformers_logging

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.config import EMBEDDED, RunConfig
from quantum_hybrid.distillation import method_for
from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import Interrupted, QuantumHybridError, UsageError
from quantum_hybrid.paths import user_path
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.report.curves import draw_curves
from quantum_hybrid.report.groups_page import write_groups_page
from quantum_hybrid.report.summary import summarise, summary_lines, teacher_lines
from quantum_hybrid.run.console import Console
from quantum_hybrid.run.directory import RunDirectory
from quantum_hybrid.run.job import Distillation
from quantum_hybrid.run.stop import StopRequest
from quantum_hybrid.run.tracking import (
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    Trackers,
    WandbTracker,
    read_metrics,
    replay,
)
from quantum_hybrid.shown import shown
from quantum_hybrid.teacher import choose_teacher

KEPT_HERE = ("run_dir", "prompts", "data_path_to_save_groups", "wandb_name", "wandb_project")
"""Settings that are not sent to a tracking service: local paths, and names it already has."""

Train = Callable[[Distillation, StopRequest], Awaitable[None]]
"""Takes all remaining steps. It must return or raise between two steps after a signal."""


class RunSession:
    """One run, opened; use it with `async with`."""

    def __init__(self, run: RunDirectory, ranks: Ranks = ALONE) -> None:
        self.run = run
        self._ranks = ranks
        self._stack = AsyncExitStack()
        self.console = self._stack.enter_context(Console(run.path / "log.txt"))
        transformers_logging.disable_progress_bar()

    async def __aenter__(self) -> RunSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def to_its_end(self, train: Train) -> dict[str, Any]:
        """Open the run, train, evaluate and write the results; return the summary.

        If the run can be resumed after an error, the error's `resumable_run` names its directory.
        """
        stop = StopRequest(self.console.line)
        with stop.listening():
            try:
                return await self._whole_run(train, stop)
            except QuantumHybridError as error:
                self.console.stop_progress()
                self._say_what_was_asked()
                self.console.log(f"error: {error}")
                if not isinstance(error, UsageError):  # Resuming would end in the same error.
                    error.resumable_run = self.run.path
                raise
            finally:
                # Signals are still handled here, while the trackers upload their last rows.
                await self._stack.aclose()

    async def _whole_run(self, train: Train, stop: StopRequest) -> dict[str, Any]:
        started = time.monotonic()
        job = await stop.unless(self._open())
        self._job = job
        self.console.start_progress(self.run.config.total_steps, job.progress.step)
        await train(job, stop)
        self.console.stop_progress()
        try:
            return await stop.unless(self._finish(job, started))
        except Interrupted:
            if not self.run.is_complete:
                raise
            return self.run.read_summary()  # The signal came after the last write.

    async def _open(self) -> Distillation:
        """Start the teacher and build the student, from the last checkpoint if there is one."""
        config = self.run.config
        if config.base_model_name == EMBEDDED:
            prepare_embedded(self.console.line)
        teacher = choose_teacher(self.run.server, os.environ, config.max_token_length)
        self.console.line("\n".join(self._introduction(teacher.description)))
        job = Distillation(self.run, teacher, self.console, self._open_tracker, self._ranks)
        return await self._stack.enter_async_context(job)

    def _introduction(self, teacher: str) -> list[str]:
        config = self.run.config
        verb = "resuming" if self.run.resumes else "run"
        lines = [
            f"{verb:10}{self.run.path}",
            f"teacher   {teacher}",
            f"student   {config.base_model_name}, {config.n_qubits} qubits x {config.n_layers} "
            f"layers, {config.mixing} mixing, backbone trained: {config.train_backbone}",
        ]
        if config.prompts is not None:
            lines.append(f"prompts   {self._prompts()}")
        if self._ranks.size > 1:
            lines.append(f"processes {self._ranks.size}, each with its share of every group")
        learns = method_for(*config.distillation()).introduction
        if learns is not None:
            lines.append(f"learns    {learns}")
        return lines

    def _prompts(self) -> str:
        """Number of prompts by part and, in a new run, of those that were left out."""
        run, sizes = self.run, self.run.prompts.sizes()
        parts = ", ".join(f"{n} {split}" for split, n in sizes.items())
        read = run.prompts_file
        left_out = "" if read is None else f"; left out: {read.left_out}"
        return f"{sum(sizes.values())} of {shown(str(run.prompts.file))}: {parts}{left_out}"

    def _open_tracker(self) -> Tracker:
        path, config = self.run.path, self.run.config
        record = JsonlTracker(self.run.metrics_path)
        views: list[Tracker] = [TensorBoardTracker(path / "tensorboard")]
        if config.use_wandb:
            views.append(
                WandbTracker(
                    project=config.wandb_project,
                    name=config.wandb_name or path.name,
                    run_dir=path,
                    run_id=self.run.run_id,
                    config=published(config),
                    announce=self.console.line,
                )
            )
        replay(read_metrics(self.run.metrics_path), Trackers(views))
        return Trackers([record, *views])

    def _say_what_was_asked(self) -> None:
        if hasattr(self, "_job"):
            self.console.line("\n".join(teacher_lines(self._job.teacher_account().as_fields())))

    async def _finish(self, job: Distillation, started: float) -> dict[str, Any]:
        path = self.run.path
        await job.in_worker(lambda: job.learner.save_student(path / "student"))
        metrics = read_metrics(self.run.metrics_path)
        draw_curves(metrics, path / "curves.png", title=str(path))
        write_groups_page(self.run.groups_path)
        summary = summarise(metrics) | {
            "seconds": round(time.monotonic() - started, 1),
            "teacher": job.teacher_account().as_fields(),
        }
        write_json(path / "summary.json", summary)
        lines = [*summary_lines(summary), "", *teacher_lines(summary["teacher"])]
        self.console.line("\n".join(["", *lines]))
        return summary


def published(config: RunConfig) -> dict[str, Any]:
    """The settings that are sent to a tracking service, without paths of this machine."""
    fields = config.model_dump(exclude=set(KEPT_HERE))
    base = user_path(config.base_model_name, f"`base_model_name` {config.base_model_name!r}")
    return fields | {"base_model_name": base.name if base.exists() else config.base_model_name}
