"""The steps of a run: take the teacher's answers, train the student, evaluate, checkpoint.

The event loop requests the next groups of answers while one worker thread trains on the current
group. Groups are trained on in the order of the schedule, not in the order of arrival, so the same
teacher text and seed give the same figures.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import islice
from typing import TypeVar

import torch

from quantum_hybrid.backbone import embedded_tokenizer
from quantum_hybrid.distillation import method_for
from quantum_hybrid.errors import QuantumHybridError, TeacherError, TeacherSilent
from quantum_hybrid.evaluation import reward
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.run.console import Console
from quantum_hybrid.run.directory import RunDirectory, read_held_out
from quantum_hybrid.run.groups import ScoredGroup
from quantum_hybrid.run.stop import StopRequest
from quantum_hybrid.run.tracking import Tracker
from quantum_hybrid.shown import shown
from quantum_hybrid.teacher import (
    Account,
    AnswerCache,
    ChosenTeacher,
    GroupStream,
    TeacherClient,
    answers_path,
    compute_threads,
)
from quantum_hybrid.text.encoder import Example
from quantum_hybrid.text.prompts import LeakageCheck
from quantum_hybrid.text.records import Answer, Prompt, Sampling
from quantum_hybrid.training import (
    Learner,
    Progress,
    StepResult,
    has_checkpoint,
    tidy_checkpoints,
)

GROUPS_AHEAD = 16
"""Minimum number of groups requested in advance. It is raised to twice the number of concurrent
requests, so that one slow answer leaves no connection idle."""
MAX_LEFT_OUT_IN_A_ROW = 8
"""Maximum number of consecutive groups that cannot be trained on. The run then ends with an error,
because each of them is paid for."""
SEED_STRIDE = 100_003
"""Distance between the sampling seeds of runs with consecutive seeds. Answer i of a prompt is drawn
with the sampling seed + i, so two runs must not share a range of seeds."""
T = TypeVar("T")


class Distillation:
    """Teacher, student and records of one run. Open it with `async with`, then take its steps."""

    learner: Learner
    client: TeacherClient
    stream: GroupStream
    held_out: list[Example]
    progress: Progress
    tracker: Tracker

    def __init__(
        self,
        run: RunDirectory,
        teacher: ChosenTeacher,
        console: Console,
        open_tracker: Callable[[], Tracker],
        ranks: Ranks = ALONE,
    ) -> None:
        self.run = run
        self.config = run.config
        self._method = method_for(*run.config.distillation())
        self.teacher = teacher
        self.console = console
        self._open_tracker = open_tracker
        self._left_out = 0
        self._is_whole = True
        self._is_given_up = threading.Event()
        self._checkpoints = run.path / "checkpoints"
        self._stack = AsyncExitStack()
        self._ranks = ranks
        n_threads = ranks.threads(compute_threads(teacher))
        self._worker = ThreadPoolExecutor(
            1, "training", initializer=torch.set_num_threads, initargs=(n_threads,)
        )

    async def __aenter__(self) -> Distillation:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        """Start the teacher and build the student, concurrently with the held-out answers."""
        self._stack.callback(self._worker.shutdown)
        server, *spares = self._stack.enter_context(self.teacher.start())
        cache = AnswerCache(answers_path())
        self._stack.callback(cache.close)
        limits = self.run.server
        self.client = TeacherClient(
            server,
            cache,
            spares,
            max_requests=limits.max_requests,
            max_cost=limits.max_cost,
            announce=self.console.line,
        )
        self._earlier = self.run.read_teacher_account()
        self._stack.callback(self._keep_account)
        self._stack.push_async_callback(self.client.close)
        if not self.run.has_held_out and self._lacks_held_out():
            await self.client.check()  # A wrong key or address ends the run before any work.
        held_out = asyncio.create_task(self._held_out_answers())
        try:
            self.learner = await self.in_worker(self._build_learner)
            self.progress = self._kept = await self.in_worker(self._load_progress)
            await self.in_worker(self.learner.check_gradients)
            self.tracker = self._open_tracker()
            self._stack.callback(self.tracker.close)
            answers = await held_out
        finally:
            self._is_given_up.set()
            held_out.cancel()
        await self._check_teacher(answers)
        self.held_out = [self.learner.encoder.example(*pair) for pair in answers]
        self.leakage = LeakageCheck(answer for _, answer in answers)
        groups_path = self.run.groups_path
        groups_path.parent.mkdir(parents=True, exist_ok=True)
        groups = groups_path.open("a", encoding="utf-8", buffering=1)
        self._groups = self._stack.enter_context(groups)
        schedule = self.run.prompts.schedule(self.config.seed, self.config.group_size)
        self.stream = GroupStream(
            self.client,
            islice(schedule, self.progress.groups_drawn, None),
            self.config.group_size,
            self._sampling(self._method.top_logprobs),
            max(GROUPS_AHEAD, 2 * server.max_concurrent_requests),
        )
        self._stack.push_async_callback(self.stream.close)

    async def _check_teacher(self, held_out: list[tuple[Prompt, Answer]]) -> None:
        """Raise `UsageError` if the run's method cannot learn from this teacher."""
        tokenizer = embedded_tokenizer if self.teacher.is_embedded else None
        encoder = self.learner.encoder
        found = await self.in_worker(lambda: self._method.check(held_out, encoder, tokenizer))
        if found is not None:
            self.console.line(f"vocabulary  {found}")

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Run a long computation on the training thread, so that the event loop is not blocked."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def next_group(self) -> tuple[Prompt, list[Answer]]:
        """Wait for the next group that can be trained on.

        A group is left out, with a line on the console, if one of its answers equals a held-out
        answer or the teacher has no text for its prompt. Raises `TeacherError` after
        `MAX_LEFT_OUT_IN_A_ROW` consecutive ones.
        """
        why = ""
        for _ in range(MAX_LEFT_OUT_IN_A_ROW):
            n_wanted = self.config.total_steps - self.progress.step
            try:
                prompt, answers = await self.stream.next_group(n_wanted)
            except TeacherSilent as error:
                why = str(error)
            else:
                if not self.leakage.leaks(answers):
                    return prompt, answers
                why = f"{shown(prompt.id)}: one of its answers is a held-out answer"
            self._leave_out(why)
        raise TeacherError(
            f"the teacher's last {MAX_LEFT_OUT_IN_A_ROW} groups could not be trained on, so the "
            f"run stops; the last one: {why}. Nothing can be learned from a teacher that gives the "
            "same text to every prompt, such as a refusal"
        )

    def _leave_out(self, why: str) -> None:
        self._left_out += 1
        self.console.line(f"left out {why}")

    def teacher_account(self) -> Account:
        """Requests, answers, faults and cost, summed over all starts of the run."""
        account = self.client.account
        return account if self._earlier is None else account.plus(self._earlier)

    def _keep_account(self) -> None:
        """Write the account on exit; a complete run has already written its final one."""
        if not self.run.is_complete:
            self._write_account()

    def _write_account(self) -> None:
        self.run.write_teacher_account(self.teacher_account().as_fields())

    @property
    def is_done(self) -> bool:
        """Whether the last step has been taken."""
        return self.progress.step >= self.config.total_steps

    async def begin(self) -> None:
        """Evaluate before the first step of a new run."""
        if self.progress == Progress():
            await self.evaluate()

    async def next_step(self, stop: StopRequest) -> ScoredGroup:
        """Wait for the next group and train on it; evaluate and write a checkpoint when due.

        A signal or a teacher error while waiting is raised after a checkpoint of the steps so far.
        An error within a step is raised without one, because the step's records are incomplete.
        """
        try:
            prompt, answers = await stop.unless(self.next_group())
        except QuantumHybridError:
            await self.keep()
            raise
        self._is_whole = False
        group = await self.train_on(prompt, answers)
        self._groups.write(json.dumps(group.as_fields()) + "\n")
        step, config = self.progress.step, self.config
        if self.is_done or step % config.steps_per_eval == 0:
            await self.evaluate()
        if self.is_done or step % config.steps_per_checkpoint == 0:
            await self.save_checkpoint()
        self._is_whole = True
        return group

    async def keep(self) -> None:
        """Write a checkpoint of the last step if it has none and the step is complete."""
        if self._is_whole and self.progress != self._kept:
            await self.save_checkpoint()

    async def train_on(self, prompt: Prompt, answers: list[Answer]) -> ScoredGroup:
        """Train on a group, compute its rewards and log the step's metrics."""
        started = time.perf_counter()
        examples = self._method.examples(self.learner.encoder, prompt, answers)
        result = await self.in_worker(lambda: self.learner.train_on(examples, self.progress.step))
        seconds = time.perf_counter() - started
        # Groups left out before this one count as drawn only now: if the run stops earlier, the
        # resumed run examines them again.
        drawn = self.progress.groups_drawn + self._left_out + 1
        self.progress, self._left_out = Progress(self.progress.step + 1, drawn), 0
        scores = self._rewards(result)
        metrics = result.metrics | {
            "train/reward": sum(scores) / len(scores),
            "train/tokens_per_second": result.n_tokens / seconds,
        }
        self.tracker.log(self.progress.step, metrics)
        self.console.advance(self.progress.step, self._description(metrics))
        return ScoredGroup(prompt, answers, examples, scores)

    async def evaluate(self) -> dict[str, float]:
        """Compute and log all held-out metrics of the current student."""
        metrics = await self.in_worker(lambda: self.learner.evaluate(self.held_out))
        self.tracker.log(self.progress.step, metrics)
        self.console.line(
            f"held-out, step {self.progress.step}: "
            f"hybrid {metrics['eval/hybrid_loss']:.3f}, "
            f"classical {metrics['eval/classical_loss']:.3f}, "
            f"quantum {metrics['eval/quantum_loss']:.3f} nats/token, "
            f"alpha {metrics['model/alpha']:.3f}, "
            f"ablation {metrics['eval/quantum_ablation']:+.4f}"
        )
        return metrics

    async def save_checkpoint(self) -> None:
        """Write a checkpoint; metrics and groups are synced to the disk before it."""
        self.run.sync()
        write = self.learner.save_checkpoint
        await self.in_worker(lambda: write(self._checkpoints, self.progress))
        self._kept = self.progress
        self._write_account()

    def _build_learner(self) -> Learner:
        resumes = has_checkpoint(self._checkpoints)
        calibration = self.run.prompts.calibration(self.config.seed)
        if not resumes:
            self.console.line(f"building  the head, from {len(calibration)} training prompts")
        return Learner(self.config, calibration, self._ranks, resumes=resumes, heed=self._heed)

    def _heed(self) -> None:
        """Raise in the worker thread if nobody waits for the learner any more."""
        if self._is_given_up.is_set():
            raise QuantumHybridError("stopped while the head was calibrated")

    def _load_progress(self) -> Progress:
        """Restore the last checkpoint and cut the records back to it, or write one of step 0."""
        folder = self._checkpoints
        progress = self.learner.load_checkpoint(folder, self.console.line)
        if progress is None:
            self.run.refuse_records()
            self.learner.save_checkpoint(folder, Progress())
            return Progress()
        tidy_checkpoints(folder, progress.step, self.config.checkpoints_kept)
        self.run.truncate(progress.step)
        return progress

    def _rewards(self, result: StepResult) -> list[float]:
        return [
            reward(
                loss,
                gain,
                self.learner.vocabulary,
                perplexity_weight=self.config.perplexity_weight,
                quantum_weight=self.config.quantum_weight,
            )
            for loss, gain in zip(result.answer_losses, result.answer_gains, strict=True)
        ]

    def _held_out_requests(self) -> list[tuple[Prompt, Sampling]]:
        config = self.config
        sampling = self._sampling(config.teacher_top_logprobs)
        prompts = self.run.prompts.held_out(config.eval_split, config.eval_prompts, config.seed)
        return [(prompt, sampling) for prompt in prompts]

    def _lacks_held_out(self) -> bool:
        requests = self._held_out_requests()
        return any(self.client.lacks(prompt, 0, 1, sampling) for prompt, sampling in requests)

    async def _held_out_answers(self) -> list[tuple[Prompt, Answer]]:
        """The held-out answers, written to the run directory once and read from there afterwards.

        The run does not read them from the cache again, whose answers may have changed since.
        """
        if self.run.has_held_out:
            return read_held_out(self.run.path)
        answers = await asyncio.gather(*map(self._held_out_answer, self._held_out_requests()))
        pairs = [pair for pair in answers if pair is not None]
        if not pairs:
            raise TeacherError("the teacher has no text for any held-out prompt")
        self.run.write_held_out(pairs)
        return pairs

    async def _held_out_answer(
        self, request: tuple[Prompt, Sampling]
    ) -> tuple[Prompt, Answer] | None:
        prompt, sampling = request
        try:
            (answer,) = await self.client.answers(prompt, 0, 1, sampling)
        except TeacherSilent as error:
            self.console.line(f"not evaluated: {error}")
            return None
        return prompt, answer

    def _sampling(self, top_logprobs: int) -> Sampling:
        return Sampling(
            max_tokens=self.config.max_token_length,
            temperature=self.config.temperature,
            seed=self.config.seed * SEED_STRIDE,
            top_logprobs=top_logprobs,
        )

    def _description(self, metrics: dict[str, float]) -> str:
        return (
            f"loss {metrics['train/hybrid_loss']:.3f}  alpha {metrics['train/alpha_value']:.3f}  "
            f"{metrics['train/tokens_per_second']:.0f} tokens/s  "
            f"teacher {self.stream.n_ready} ahead"
        )
