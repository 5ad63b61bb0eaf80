"""The Atropos environment: a run that takes its steps when a trainer needs groups.

A thin translation to and from atroposlib. The run is a `RunSession` like any other: it asks its
teacher, trains its student, evaluates, writes checkpoints and ends with its last step. BaseEnv's
loop decides when the next step is due and sends its group; its server manager stays idle.

Each group is trained on once and sent once, although BaseEnv's loop cancels its workers whenever
the trainer is behind and starts them again with the same items. So a step is taken in
`get_next_item`, which only the end of the run cancels, and a worker only sends the group; if the
worker is cancelled, the sending goes on. When a signal ends the run, unsent groups are sent first.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession
from atroposlib.envs.base import APIServerConfig, BaseEnv, BaseEnvConfig, ScoredDataGroup
from atroposlib.envs.server_handling.server_manager import ServerManagerConfig
from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import RetryError, retry, stop_after_attempt, wait_random_exponential

from quantum_hybrid.config import RunConfig, first_line
from quantum_hybrid.errors import Interrupted, TrainerError, UsageError
from quantum_hybrid.model_files import find_base_model
from quantum_hybrid.run.directory import RunDirectory
from quantum_hybrid.run.groups import ScoredGroup
from quantum_hybrid.run.job import MAX_LEFT_OUT_IN_A_ROW, Distillation
from quantum_hybrid.run.session import RunSession
from quantum_hybrid.run.stop import StopRequest

Model = TypeVar("Model", bound=BaseModel)
NEVER = 2**62
"""Number of trainer steps after which BaseEnv's loop ends by itself; here the run ends it."""


class QuantumHybridEnvConfig(RunConfig, BaseEnvConfig):
    """A run's settings and Atropos's own. Atropos passes values as text and modifies its own."""

    model_config = ConfigDict(frozen=False, strict=False, extra="ignore")


class _AllServed(Exception):
    """The last group has been sent to the API."""


class QuantumHybridEnv(BaseEnv):
    """Distils a teacher into a hybrid student and sends the scored answers to a trainer."""

    name = "quantum_hybrid"
    env_config_cls: Any = QuantumHybridEnvConfig

    def __init__(
        self,
        config: QuantumHybridEnvConfig,
        run: RunDirectory,
        job: Distillation,
        stop: StopRequest,
    ) -> None:
        """config: from `settings_of`. job: opened. stop: ends `serve` on a signal."""
        config = config.model_copy()
        for name, value in _left_to_the_run(run).items():
            setattr(config, name, value)
        idle = APIServerConfig(base_url="http://127.0.0.1", api_key="unused", health_check=False)
        super().__init__(config, [idle])
        self._job, self._stop = job, stop
        self._step: asyncio.Task[ScoredGroup] | None = None
        self._unsent: list[ScoredGroup] = []  # trained on, and not yet on its way
        self._sending: set[asyncio.Task[None]] = set()
        self._n_sent = self._n_refused_in_a_row = 0
        self._waits = False

    @classmethod
    def config_init(cls) -> tuple[Any, list[APIServerConfig]]:
        """Defaults for BaseEnv's command line."""
        return QuantumHybridEnvConfig(), [APIServerConfig(model_name="", health_check=False)]

    @classmethod
    def cli(cls) -> None:
        """The command line that an Atropos user's script calls; the same as `python atropos.py`."""
        from quantum_hybrid.cli import main

        sys.exit(main())

    async def serve(self) -> None:
        """Take the run's steps when the trainer needs groups, up to the last step.

        Raises `TrainerError` if the API cannot be reached or several groups in a row are not sent.
        """
        root = logging.getLogger()
        root.addFilter(_is_news)
        try:
            await self._job.begin()
            await self._stop.unless(self.env_manager())
        except _AllServed:
            return
        except Interrupted:
            await self._send_what_is_left()
            raise
        except (RetryError, ClientError) as error:
            url = self.config.rollout_server_url
            raise TrainerError(f"Atropos's API at {url} cannot be reached ({error})") from error
        finally:
            root.removeFilter(_is_news)
            await self._end()

    async def _send_what_is_left(self) -> None:
        """Wait for the current step, then send all groups that have been trained on."""
        await self._end_of_step()
        for group in [*self._unsent]:
            self._start_sending(group)
        await asyncio.gather(*self._sending)

    async def _end_of_step(self) -> None:
        if self._step is not None:
            await asyncio.gather(self._step, return_exceptions=True)

    async def _end(self) -> None:
        """Wait for the current step, cancel BaseEnv's workers, and write a checkpoint."""
        await self._end_of_step()
        tasks = [*self.workers, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._job.keep()

    async def _register_env(self) -> dict[str, Any]:
        """Register with the API, and say once if it has no trainer that takes groups yet."""
        reply = await super()._register_env()
        if reply["status"] != "success" and not self._waits:
            self._waits = True
            self._job.console.line(
                f"waiting   for a trainer at {self.config.rollout_server_url}: to register, and to "
                "ask for its first batch"
            )
        return reply

    async def setup(self) -> None:
        """Nothing: the run was opened before."""

    async def get_next_item(self) -> ScoredGroup | None:
        """Take the next step; None while the last groups are being sent.

        Raises `TrainerError` once several groups in a row could not be sent.
        """
        if self._n_refused_in_a_row >= MAX_LEFT_OUT_IN_A_ROW:
            raise TrainerError(
                f"the last {self._n_refused_in_a_row} groups could not be sent to the trainer, so "
                "no more are asked for: their scores are all equal, they are too long for it, or "
                "it refuses them (Atropos's own messages say which)"
            )
        if self._job.is_done:
            if self.workers or self._sending:
                return None
            raise _AllServed
        self._step = asyncio.create_task(self._take_step())
        return await asyncio.shield(self._step)

    async def _take_step(self) -> ScoredGroup:
        group = await self._job.next_step(self._stop)
        self._unsent.append(group)
        return group

    async def collect_trajectories(
        self, item: ScoredGroup
    ) -> tuple[ScoredDataGroup | None, list[Any]]:
        """The group in Atropos's form; None if a cancelled worker has started to send it."""
        return (ScoredDataGroup(**item.as_fields()) if item in self._unsent else None), []

    async def handle_send_to_api(
        self, scored_data: Any, item: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """Send a group to the end, even if the worker that sends it is cancelled."""
        await asyncio.shield(self._start_sending(item))

    def _start_sending(self, group: ScoredGroup) -> asyncio.Task[None]:
        self._unsent.remove(group)
        sending = asyncio.create_task(self._send(group))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return sending

    async def _send(self, group: ScoredGroup) -> None:
        n_sent = self._n_sent
        await super().handle_send_to_api(ScoredDataGroup(**group.as_fields()), group)
        if self._n_sent == n_sent:
            self._n_refused_in_a_row += 1

    @retry(stop=stop_after_attempt(3), wait=wait_random_exponential(max=10))
    async def _send_scored_data_to_api(self, scored_data: Any) -> None:
        """Send a group and count it. BaseEnv's own method treats a refusal as a success."""
        scored_data["env_id"] = self.env_id
        url = f"{self.config.rollout_server_url}/scored_data"
        async with (
            ClientSession() as session,
            self._post_json_with_compression(session, url, scored_data) as response,
        ):
            response.raise_for_status()
        self._n_sent += 1
        self._n_refused_in_a_row = 0

    async def get_server_info(self) -> None:
        """Fetch the trainer's registration. Raises `UsageError` if the group size does not fit."""
        try:
            await super().get_server_info()
        except ValueError as error:
            raise UsageError(f"`group_size` {self.config.group_size}: {error}") from error

    async def evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run evaluates after its own steps."""

    def load_checkpoint(self) -> None:
        """Nothing: the run has checkpoints of its own."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether BaseEnv's message is not the one that it repeats every second as it waits."""
    return not record.getMessage().startswith("Waiting to register the env")


def _left_to_the_run(run: RunDirectory) -> dict[str, Any]:
    return {
        "tokenizer_name": find_base_model(run.config.base_model_name),
        "total_steps": NEVER,
        "steps_per_eval": -1,
        "data_path_to_save_groups": None,
        "use_wandb": False,
        "wandb_name": run.config.wandb_name or run.path.name,  # a trainer wants some name
    }


def settings_of(
    config: RunConfig, atropos: Mapping[str, Mapping[str, Any]]
) -> QuantumHybridEnvConfig:
    """A run's settings with Atropos's own, given by section: `env`, `openai` and the empty string.

    Raises `UsageError` for a value that Atropos does not allow and for settings with which no group
    would be sent.
    """
    _checked(APIServerConfig, atropos["openai"])  # Checked only: its servers stay idle.
    manager = _checked(ServerManagerConfig, atropos[""])
    for name in ("slurm", "testing"):
        if getattr(manager, name):
            raise UsageError(f"`{name}` true: is for Atropos's own servers, which stay idle here")
    settings = _checked(QuantumHybridEnvConfig, config.model_dump() | dict(atropos["env"]))
    if settings.group_size == 1 and settings.ensure_scores_are_not_same:
        raise UsageError(
            "`group_size` 1: no group would be sent, since the scores of one answer are all the "
            "same; ask for more answers, or set `ensure_scores_are_not_same` to false"
        )
    return settings


def _checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise UsageError(first_line(model, error)) from None


def serve_run(run: RunDirectory, config: QuantumHybridEnvConfig) -> dict[str, Any]:
    """Train a run, send its groups to an Atropos API, and return the run's summary."""

    async def train(job: Distillation, stop: StopRequest) -> None:
        await QuantumHybridEnv(config, run, job, stop).serve()

    async def main() -> dict[str, Any]:
        async with RunSession(run) as session:
            return await session.to_its_end(train)

    return asyncio.run(main())
