"""The client of all OpenAI-compatible teachers: from prompts to answers, each stored on arrival.

    server = TeacherServer(base_url=url, model="m", api_key=None, identity=url)
    client = TeacherClient(server, AnswerCache(path))
    answers = await client.answers(prompt, first_index=0, count=4, sampling=Sampling())

Answer i of a prompt is drawn with seed `sampling.seed + i`. One request asks for n answers (`n`,
with the seed of the first; llama.cpp counts up from it). A server that ignores `n` gets one request
per answer. An answer without text is drawn again with `REDRAW_SEED_OFFSET` added to its seed, up to
`MAX_DRAWS` times; if all draws are empty, that result is cached like an answer.

With several servers the first one that works is used, in the order given. Cached answers of any of
them are used. Each request is a task of the client: if the caller is cancelled, the request
continues and its answers are stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from quantum_hybrid.errors import TeacherError, TeacherSilent, TeacherUnreachable, UsageError
from quantum_hybrid.shown import shown
from quantum_hybrid.teacher.account import Account
from quantum_hybrid.teacher.budget import Budget
from quantum_hybrid.teacher.cache import AnswerCache
from quantum_hybrid.teacher.endpoint import Endpoint, SeveralChoicesRefused
from quantum_hybrid.teacher.replies import Reply
from quantum_hybrid.teacher.request import AnswerRequest
from quantum_hybrid.teacher.server import TeacherServer
from quantum_hybrid.text.records import Answer, Prompt, Sampling

REDRAW_SEED_OFFSET = 1_000_003
"""Added to an answer's seed for each empty draw; larger than the number of answers to a prompt."""

MAX_DRAWS = 5
"""Maximum number of draws for one answer; after that many empty ones the prompt is given up."""

T = TypeVar("T")


class TeacherClient:
    """Requests answers from a server or its spares, and stores every answer in the cache.

    Use it within one event loop. While the server fails, requests go to the `spares` in their
    order, and `announce` receives a line. Reaching `max_requests` or `max_cost` raises
    `BudgetSpent`.
    """

    def __init__(
        self,
        server: TeacherServer,
        cache: AnswerCache,
        spares: Sequence[TeacherServer] = (),
        *,
        max_requests: int | None = None,
        max_cost: float | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.account = Account()
        """Requests, faults, answers and cost so far."""
        self._cache = cache
        self._announce = announce
        self._budget = Budget(self.account, max_requests, max_cost)
        jitter = random.Random()  # Unseeded on purpose: clients must not retry in step.
        self._endpoints = [
            Endpoint(one, self._budget, self.account, jitter) for one in (server, *spares)
        ]
        self._checking: asyncio.Task[tuple[str, ...]] | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        for endpoint in self._endpoints:
            self._recall_model(endpoint)

    @property
    def server(self) -> TeacherServer:
        """The preferred server; its `model` is filled in once it is known."""
        return self._endpoints[0].server

    async def check(self) -> tuple[str, ...]:
        """Request every server's list of models, so that a wrong address or key ends a run early.

        The servers are checked once, also if this is called repeatedly. Returns the models of the
        first server that could be reached; empty if it has no such list. Raises `TeacherRefused` or
        `TeacherError` for any server, `TeacherUnreachable` if none can be reached.
        """
        if self._checking is None or (self._checking.done() and self._checking.exception()):
            self._checking = self._own(self._check())
        return await asyncio.shield(self._checking)

    def lacks(self, prompt: Prompt, first_index: int, count: int, sampling: Sampling) -> bool:
        """Whether any of these answers is missing in the cache."""
        wanted = range(first_index, first_index + count)
        return len(self._kept(prompt, wanted, sampling)) < count

    async def answers(
        self, prompt: Prompt, first_index: int, count: int, sampling: Sampling
    ) -> list[Answer]:
        """Answers `first_index` to `first_index + count - 1` of the prompt, in this order.

        Cached answers need no request. Raises `TeacherUnreachable` after all retries of all
        servers, `TeacherRefused` if no server accepts the request, `TeacherSilent` if every draw of
        an answer is empty, `TeacherError` for replies that cannot be used, and `BudgetSpent` at a
        limit. Answers that have arrived by then stay in the cache.
        """
        wanted = range(first_index, first_index + count)
        found = self._kept(prompt, wanted, sampling)
        if len(found) < count and not all(e.model_is_certain for e in self._endpoints):
            await self.check()
            found = self._kept(prompt, wanted, sampling)
        self.account.answers_from_cache += len(found)
        draws = {index: 0 for index in wanted if index not in found}
        while draws:
            for index, answer in await self._round(prompt, draws, sampling):
                if answer is None:
                    draws[index] += 1
                else:
                    found[index] = answer
                    del draws[index]
        if silent := [index for index in wanted if not found[index].text]:
            raise TeacherSilent(
                f"prompt {shown(prompt.id)!r} of teacher {self.server.base_url}: answer "
                f"{silent[0]} came back without text ({shown(found[silent[0]].finish_reason)}) "
                f"{MAX_DRAWS} times"
            )
        return [found[index] for index in wanted]

    async def close(self) -> None:
        """Send no further request, wait for those in flight and store their answers.

        Requests that have no reply within the servers' `grace_s` are cancelled. The cache stays
        open.
        """
        self._budget.close()
        grace = max(endpoint.server.grace_s for endpoint in self._endpoints)
        if self._under_way and grace > 0:
            self._tell(f"waiting for requests in flight: {grace:.0f} s at most")
            await asyncio.wait(self._under_way, timeout=grace)
        unfinished = list(self._under_way)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for endpoint in self._endpoints:
            await endpoint.close()

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that the client owns: it ends by itself or when the client is closed."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Retrieved, or asyncio would warn if the caller is gone.

    async def _check(self) -> tuple[str, ...]:
        recalled = [endpoint.server.model for endpoint in self._endpoints]
        outcomes = await asyncio.gather(
            *(endpoint.check() for endpoint in self._endpoints), return_exceptions=True
        )
        unreachable = [o for o in outcomes if isinstance(o, TeacherUnreachable)]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and outcome not in unreachable:
                raise outcome
        if len(unreachable) == len(self._endpoints):
            raise unreachable[0]
        for failed in unreachable:
            self._tell(f"{failed}; using another server meanwhile")
        for endpoint, before in zip(self._endpoints, recalled, strict=True):
            self._keep_model(endpoint, before)
        return next(o for o in outcomes if not isinstance(o, BaseException))

    def _recall_model(self, endpoint: Endpoint) -> None:
        """Use the only model that the server offered last time; `check` verifies it."""
        if not endpoint.server.model:
            identity = endpoint.server.cache_identity()
            if (model := self._cache.remembered_model(identity)) is not None:
                endpoint.recall_model(model)

    def _keep_model(self, endpoint: Endpoint, before: str) -> None:
        if endpoint.model_is_named or not endpoint.model_is_certain:
            return
        if before and before != endpoint.server.model:
            now, before = map(endpoint.server.quoted, (endpoint.server.model, before))
            raise UsageError(
                f"`model_name`: must be given; the only model of {endpoint.server.base_url} "
                f"is now {now}, and answers of {before} are in use",
                quoted=[now, before],
            )
        self._cache.remember_model(endpoint.server.cache_identity(), endpoint.server.model)

    def _kept(self, prompt: Prompt, wanted: range, sampling: Sampling) -> dict[int, Answer]:
        """Cached answers by index, each from the first server for which there is one."""
        found: dict[int, Answer] = {}
        corrupt_before = self._cache.corrupt_rows
        for index in wanted:
            for endpoint in self._endpoints:
                answer = self._cache.get(_request(endpoint, prompt, index, sampling))
                if answer is not None and (answer.text or index not in found):
                    found[index] = replace(answer, prompt_id=prompt.id, index=index)
                    if answer.text:
                        break
        if corrupt := self._cache.corrupt_rows - corrupt_before:
            self.account.faults["corrupt_row"] += corrupt
        return found

    async def _round(
        self, prompt: Prompt, draws: dict[int, int], sampling: Sampling
    ) -> list[tuple[int, Answer | None]]:
        """Request every missing answer once. An answer that came back empty is None."""
        runs = _contiguous_runs(draws, self._by_preference()[0].answers_per_request)
        tasks = [self._own(self._draw(prompt, run, draws[run[0]], sampling)) for run in runs]
        # Wait for all of them even if one fails: the answers of the others are paid for.
        outcomes = await asyncio.shield(asyncio.gather(*tasks, return_exceptions=True))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [pair for outcome in outcomes for pair in cast(list, outcome)]

    async def _draw(
        self, prompt: Prompt, indices: list[int], earlier_draws: int, sampling: Sampling
    ) -> list[tuple[int, Answer | None]]:
        """Send one request for answers with consecutive indices and store those that arrive."""
        self._cache.require_room()
        seed = sampling.seed + indices[0] + REDRAW_SEED_OFFSET * earlier_draws
        try:
            endpoint, reply = await self._ask(prompt.text, len(indices), seed, sampling)
        except SeveralChoicesRefused:
            return []
        drawn: dict[int, Answer | None] = {}
        for choice in reply.choices:
            if choice.index < len(indices):
                index = indices[choice.index]
                answer = Answer(
                    prompt_id=prompt.id,
                    index=index,
                    text=choice.text or "",
                    finish_reason=choice.finish_reason if choice.text else str(choice.lacks),
                    model=reply.model or endpoint.server.model,
                    logprobs=choice.logprobs if sampling.top_logprobs else None,
                )
                is_last = earlier_draws + 1 >= MAX_DRAWS
                drawn[index] = answer if answer.text or is_last else None
        self._store(endpoint, prompt, sampling, drawn)
        return list(drawn.items())

    def _store(
        self,
        endpoint: Endpoint,
        prompt: Prompt,
        sampling: Sampling,
        drawn: dict[int, Answer | None],
    ) -> None:
        """Store the answers and replace in `drawn` those that another run has stored first."""
        answers = {index: answer for index, answer in drawn.items() if answer is not None}
        requests = [_request(endpoint, prompt, index, sampling) for index in answers]
        if not answers:
            return
        standing = self._cache.put(list(zip(requests, answers.values(), strict=True)))
        for index, answer in zip(answers, standing, strict=True):
            drawn[index] = replace(answer, prompt_id=prompt.id, index=index)
        name = endpoint.server.identity  # Not its address: the embedded teacher's port varies.
        for answer in filter(lambda answer: answer.text, answers.values()):
            self.account.answers += 1
            self.account.cut_at_length += answer.finish_reason == "length"
            self.account.answers_by_teacher[endpoint.server.quoted(f"{answer.model} {name}")] += 1

    def _count(self, reply: Reply, n_asked: int, sampling: Sampling) -> None:
        faults = self.account.faults
        wanted = [choice for choice in reply.choices if choice.index < n_asked]
        surplus = len(reply.choices) - len(wanted)
        for choice in wanted:
            if choice.lacks:
                faults[choice.lacks] += 1
            if choice.has_nan_logprobs and sampling.top_logprobs:
                faults["nan_logprobs"] += 1
        if surplus + reply.n_repeated:
            faults["surplus"] += surplus + reply.n_repeated
        if missing := n_asked - len(wanted):
            faults["missing"] += missing

    async def _ask(
        self, text: str, n_answers: int, seed: int, sampling: Sampling
    ) -> tuple[Endpoint, Reply]:
        """The reply of the first server that gives one, with its endpoint."""
        first_failure: TeacherError | None = None
        order = self._by_preference()
        for place, endpoint in enumerate(order):
            was_suspect = endpoint.is_suspect
            n_asked = min(n_answers, endpoint.answers_per_request)
            # One try shows whether a server that failed works again, if there are others.
            retries = 0 if was_suspect and len(order) > 1 else None
            try:
                reply = await endpoint.chat(text, n_asked, seed, sampling, max_retries=retries)
                self._count(reply, n_asked, sampling)
                return endpoint, reply
            except SeveralChoicesRefused:
                raise
            except TeacherError as error:
                first_failure = first_failure or error
                if place + 1 < len(order) and not was_suspect:
                    self._tell(f"{error}; asking {order[place + 1].server.base_url}")
        assert first_failure is not None  # There is at least one server.
        raise first_failure

    def _by_preference(self) -> list[Endpoint]:
        return sorted(self._endpoints, key=lambda endpoint: endpoint.is_suspect)

    def _tell(self, line: str) -> None:
        if self._announce is not None:
            self._announce(line)


def _request(endpoint: Endpoint, prompt: Prompt, index: int, sampling: Sampling) -> AnswerRequest:
    server = endpoint.server
    return AnswerRequest(server.cache_identity(), server.model, prompt.text, sampling, index)


def _contiguous_runs(draws: dict[int, int], longest: int) -> Iterator[list[int]]:
    """Split the missing indices into one list per request.

    The indices of a list are consecutive, have the same number of earlier draws, and are at most
    `longest`.
    """
    run: list[int] = []
    for index in sorted(draws):
        follows = run and index == run[-1] + 1 and draws[index] == draws[run[-1]]
        if run and (not follows or len(run) >= longest):
            yield run
            run = []
        run.append(index)
    if run:
        yield run
