"""The Atropos environment: `process`, `serve` and `evaluate` for one distillation run.

The only importer of atroposlib. `process` has a loop of its own (`process.distil`), because
BaseEnv's never evaluates and handles one group after another; `serve` and `evaluate` are BaseEnv's.
Teacher requests go through `quantum_hybrid.teacher`, whose client caches and bounds them, and not
through BaseEnv's server manager, which stays idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import typing
from contextlib import AsyncExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from atroposlib.envs.base import APIServerConfig, BaseEnv, BaseEnvConfig, ScoredDataGroup
from pydantic import create_model
from transformers.utils import logging as transformers_logging

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.base_model import find_base_model
from quantum_hybrid.config import EMBEDDED, RunConfig
from quantum_hybrid.config_file import refuse_keys_in
from quantum_hybrid.console import Console
from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import QuantumHybridError, UsageError
from quantum_hybrid.groups_page import write_groups_page
from quantum_hybrid.process import Distillation, ScoredGroup, distil
from quantum_hybrid.ranks import ALONE, Ranks
from quantum_hybrid.records import Answer, Prompt
from quantum_hybrid.report import draw_curves, summarise, summary_lines, teacher_lines
from quantum_hybrid.run_directory import RunDirectory, resolve
from quantum_hybrid.run_evaluation import evaluate_run
from quantum_hybrid.stop_request import StopRequest
from quantum_hybrid.teacher import choose_teacher
from quantum_hybrid.tracking import (
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    Trackers,
    WandbTracker,
    read_metrics,
    replay,
)

_HINTS = typing.get_type_hints(RunConfig)
# The flags, their defaults and their checks are written once, in the dataclass; pydantic, which
# Atropos wants, gets them from there.
_FIELDS: dict[str, Any] = {f.name: (_HINTS[f.name], f.default) for f in fields(RunConfig)}
QuantumHybridEnvConfig: Any = create_model(
    "QuantumHybridEnvConfig", __base__=BaseEnvConfig, **_FIELDS
)


class QuantumHybridEnv(BaseEnv):
    """Distils a teacher into a hybrid quantum-classical student; scores the teacher's answers."""

    name = "quantum_hybrid"
    env_config_cls = QuantumHybridEnvConfig
    job: Distillation

    def __init__(
        self,
        config: Any,
        server_configs: Any,
        slurm: bool = False,
        testing: bool = False,
        run: RunDirectory | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._stack = AsyncExitStack()
        if run is None:
            plan = resolve(_run_flags(config), _server_flags(server_configs))
            if (plan.path / "summary.json").is_file():
                raise UsageError(
                    f"`run_dir` {str(plan.path)!r}: is a finished run, into which nothing more is "
                    "served; name a new directory"
                )
            run = self._stack.enter_context(RunDirectory.open(plan))
        self.run, self._ranks = run, ranks
        self.console = self._stack.enter_context(Console(run.path / "log.txt"))
        transformers_logging.disable_progress_bar()
        if run.config.base_model_name == EMBEDDED:
            prepare_embedded(self.console.line)
        config.tokenizer_name = find_base_model(run.config.base_model_name)
        config.data_path_to_save_groups = None
        config.use_wandb = False  # the run's own tracker logs everything, see _open_tracker
        config.wandb_name = run.config.wandb_name or run.path.name  # a trainer wants some name
        idle = APIServerConfig(base_url="http://127.0.0.1", api_key="unused", health_check=False)
        super().__init__(config, [idle], slurm, testing)
        self._training = asyncio.Lock()

    @classmethod
    def config_init(cls) -> tuple[Any, list[APIServerConfig]]:
        """Defaults for BaseEnv's command line."""
        return QuantumHybridEnvConfig(), [APIServerConfig(model_name="", health_check=False)]

    async def setup(self) -> None:
        """Start the teacher and build the student; resumes what the run directory holds."""
        config, console = self.run.config, self.console
        teacher = choose_teacher(self.run.server, os.environ, config.max_token_length)
        verb = "resuming" if self.run.resumes else "run"
        console.line(f"{verb:10}{self.run.path}")
        console.line(f"teacher   {teacher.description}")
        console.line(
            f"student   {config.base_model_name}, {config.n_qubits} qubits x {config.n_layers} "
            f"layers, {config.mixing} mixing, backbone trained: {config.train_backbone}"
        )
        if self._ranks.size > 1:
            console.line(f"processes {self._ranks.size}, each with its share of every group")
        if config.distill_top_logprobs:
            console.line(
                f"learns    text, and the teacher's top {config.distill_top_logprobs} "
                f"log-probabilities: {config.distill_loss}, weight {config.distill_weight:g}, "
                f"temperature {config.distill_temperature:g}"
            )
        job = Distillation(self.run, teacher, console, self._open_tracker, self._ranks)
        self.job = await self._stack.enter_async_context(job)
        path = self.run.groups_path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._groups = self._stack.enter_context(path.open("a", encoding="utf-8", buffering=1))

    async def close(self) -> None:
        """Stop the teacher and close every file."""
        await self._stack.aclose()

    async def process_manager(self) -> None:
        """The whole main job: train to the last step, then leave a run that explains itself."""
        started = time.monotonic()
        stop = StopRequest(self.console.line)
        try:
            with stop.listening():
                await stop.unless(self.setup())
                self.console.start_progress(self.run.config.total_steps, self.job.progress.step)
                await distil(self.job, self._write_group, stop)
                self.console.stop_progress()
                await stop.unless(self._finish(time.monotonic() - started))
        except QuantumHybridError as error:
            self.console.stop_progress()
            if hasattr(self, "job"):
                self.console.line("\n".join(teacher_lines(self.job.teacher_account().as_fields())))
            if not isinstance(error, UsageError):  # the same again would end here again
                self.console.line(f"Go on with: {resume_command(self.run, self._ranks)}")
            self.console.log(f"error: {error}")
            raise
        finally:
            await self.close()

    async def env_manager(self) -> None:
        """Atropos's own loop, until a signal stops it; a checkpoint of the last step is kept."""
        stop = StopRequest(self.console.line)
        try:
            with stop.listening():
                await stop.unless(super().env_manager())
        finally:
            if hasattr(self, "job"):
                async with self._training:
                    await self.job.save_checkpoint()
            await self.close()

    async def get_next_item(self) -> tuple[Prompt, list[Answer]]:
        """The next prompt with the answers that the teacher has written to it."""
        return await self.job.next_group()

    async def collect_trajectories(
        self, item: tuple[Prompt, list[Answer]]
    ) -> tuple[ScoredDataGroup, list[Any]]:
        """Score a group, train on it, and hand it to Atropos."""
        async with self._training:
            group = await self.job.train_on(*item)
            self._write_group(group)
            if self.job.progress.step % self.run.config.steps_per_checkpoint == 0:
                await self.job.save_checkpoint()
        return atropos_group(group), []

    async def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """All held-out metrics of the student as it is now."""
        async with self._training:
            return await self.job.evaluate()

    def _write_group(self, group: ScoredGroup) -> None:
        self._groups.write(json.dumps(atropos_group(group)) + "\n")

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
                    config=asdict(config),
                    announce=self.console.line,
                )
            )
        replay(read_metrics(self.run.metrics_path), Trackers(views))
        return Trackers([record, *views])

    async def _finish(self, seconds: float) -> None:
        path = self.run.path
        await self.job.in_worker(lambda: self.job.learner.save_student(path / "student"))
        metrics = read_metrics(self.run.metrics_path)
        draw_curves(metrics, path / "curves.png", title=str(path))
        write_groups_page(self.run.groups_path)
        summary = summarise(metrics) | {
            "seconds": round(seconds, 1),
            "teacher": self.job.teacher_account().as_fields(),
        }
        write_json(path / "summary.json", summary)
        lines = [*summary_lines(summary), "", *teacher_lines(summary["teacher"])]
        self.console.line("\n".join(["", *lines, "", *where_things_are(self.run)]))


def run_process(run: RunDirectory, ranks: Ranks = ALONE) -> None:
    """`python atropos.py process`; a run that is already complete only shows its summary."""
    if run.is_complete:
        summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
        lines = [f"{run.path} is complete; nothing was done.", "", *summary_lines(summary)]
        print("\n".join([*lines, "", *where_things_are(run)]))
        return
    config = QuantumHybridEnvConfig(**asdict(run.config))
    env = QuantumHybridEnv(config, [], run=run, ranks=ranks)
    asyncio.run(env.process_manager())


def run_atropos_verb(arguments: list[str]) -> int:
    """`serve`, through BaseEnv's own command line, and `evaluate`, which needs none of it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env.run_dir", dest="run_dir")
    parser.add_argument("--env.data_dir_to_save_evals", dest="results", type=Path)
    parser.add_argument("--config")
    known = parser.parse_known_args(arguments)[0]
    if known.config is not None:
        refuse_keys_in(known.config)
    if arguments[0] == "evaluate":
        if known.run_dir is None:
            raise UsageError("`run_dir`: must be given, the directory of a run to evaluate")
        evaluate_run(known.run_dir, print, known.results)
        return 0
    sys.argv = ["atropos.py", *arguments]
    QuantumHybridEnv.cli()
    return 0


def atropos_group(group: ScoredGroup) -> ScoredDataGroup:
    """The group in Atropos's own form."""
    messages = [
        [
            {"role": "user", "content": group.prompt.text},
            {"role": "assistant", "content": answer.text},
        ]
        for answer in group.answers
    ]
    return ScoredDataGroup(
        tokens=[list(example.tokens) for example in group.examples],
        masks=[list(example.mask) for example in group.examples],
        scores=group.scores,
        messages=messages,  # type: ignore[typeddict-item]
        advantages=None,
        ref_logprobs=None,
        inference_logprobs=None,
        generation_params=None,
        group_overrides={},
        overrides=None,
        images=None,
        distill_token_ids=None,
        distill_logprobs=None,
    )


def resume_command(run: RunDirectory, ranks: Ranks) -> str:
    """What a person types to go on with an interrupted run."""
    launcher = "python" if ranks.size == 1 else "torchrun ..."
    return f"{launcher} atropos.py process --env.run_dir {run.path}"


def where_things_are(run: RunDirectory) -> list[str]:
    """Where the run's artefacts lie, and what to do with them next."""
    path = run.path
    return [
        f"student   {path / 'student'}  (HybridForCausalLM.from_pretrained)",
        f"curves    {path / 'curves.png'}",
        f"answers   {run.groups_path.with_suffix('.html')}",
        f"numbers   {path / 'metrics.jsonl'}; tensorboard --logdir {path / 'tensorboard'}",
        "next      another seed: python atropos.py process --env.seed 1",
        "          your own teacher: README.md, 'A real teacher'",
    ]


def _run_flags(config: Any) -> dict[str, Any]:
    """What BaseEnv's command line was given, without the defaults that it fills in."""
    defaults = RunConfig()
    values = {name: getattr(config, name) for name in _HINTS}
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}


def _server_flags(server_configs: Any) -> dict[str, Any]:
    """What BaseEnv's command line says of the teacher, as `ServerConfig` fields."""
    servers = server_configs if isinstance(server_configs, list) else [server_configs]
    flags: dict[str, Any] = {}
    if any(getattr(server, "base_url", None) for server in servers):
        flags["base_url"] = ",".join(server.base_url or "" for server in servers)
    models = [getattr(server, "model_name", None) or "" for server in servers]
    if any(model not in ("", "default") for model in models):
        flags["model_name"] = ",".join(models)
    return flags
