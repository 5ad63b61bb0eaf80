"""Chat requests to one server: concurrency limit, retries, and the check of the model's name.

    endpoint = Endpoint(server, budget, account, jitter)
    reply = await endpoint.chat(prompt_text, n_answers, seed, sampling)

Each try occupies one of `max_concurrent_requests` slots and reserves its maximum cost in the
budget. While it waits for a retry it holds neither. A Retry-After header delays all requests to the
server, not only the one that received it.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from quantum_hybrid.errors import TeacherError, UsageError
from quantum_hybrid.teacher.account import Account
from quantum_hybrid.teacher.budget import Budget
from quantum_hybrid.teacher.exchange import Exchange
from quantum_hybrid.teacher.faults import Fault, failure
from quantum_hybrid.teacher.replies import (
    MAX_TEXT_BYTES,
    Choice,
    Reply,
    ReplyError,
    parse_model_names,
    parse_reply,
)
from quantum_hybrid.teacher.reported_model import ReportedModel
from quantum_hybrid.teacher.retry import RetryPolicy
from quantum_hybrid.teacher.server import TeacherServer
from quantum_hybrid.text.records import Sampling

CHECK_TIMEOUT_S = 5.0
COOL_DOWN_S = 60.0
"""After a failure a server is used only if no other one works, for this time."""

_SEEDS = 2**31  # Some servers store the seed as a signed 32-bit integer.
_LIST_BYTES = 4 * 2**20
_LOGPROB_BYTES = 400
"""Upper bound on the JSON of one token: its text, id and log-probability."""


class SeveralChoicesRefused(TeacherError):
    """The server refused `n` > 1 and has never sent several choices: request them singly."""


class Endpoint:
    """One server with its connections and state. Use it within one event loop."""

    def __init__(
        self, server: TeacherServer, budget: Budget, account: Account, jitter: random.Random
    ) -> None:
        self.server = server
        """The server; `model` is filled in once it is known."""
        self.model_is_named = bool(server.model)
        self.model_is_certain = self.model_is_named
        """Whether the user named the model, or the server has since this program started."""
        self.answers_per_request = server.answers_per_request
        self._budget = budget
        self._account = account
        self._jitter = jitter
        self._exchange = Exchange(server)
        self._slots = asyncio.Semaphore(server.max_concurrent_requests)
        self._several_choices_seen = False
        self._models: tuple[str, ...] = ()
        self._reported = ReportedModel(server.model)
        self._not_before = 0.0
        self._suspect_until = 0.0

    @property
    def is_suspect(self) -> bool:
        """Whether it failed within the last `COOL_DOWN_S`, so that others are preferred."""
        return time.monotonic() < self._suspect_until

    def suspect(self) -> None:
        """Prefer other servers for `COOL_DOWN_S`."""
        self._suspect_until = time.monotonic() + COOL_DOWN_S

    async def check(self) -> tuple[str, ...]:
        """Request the list of models and determine the model to use.

        Returns the models that the server lists. It is empty if the server has no such list; one
        token is then requested as a test. Raises `TeacherError`, and `UsageError` if no model is
        named and the server does not offer exactly one.
        """
        try:
            body = await self._with_retries(self._list_models, max_retries=1)
            self._models = parse_model_names(body)
        except ReplyError as error:
            fault = Fault("malformed", f"{error.fault}: ", error.body)
            raise failure(self.server, fault, 1) from None
        except _NoModelList:
            self._settle_model()
            await self.chat("Hi", 1, 0, Sampling(max_tokens=1), max_retries=1)
            return ()
        self._settle_model()
        return self._models

    def recall_model(self, model: str) -> None:
        """Assume that this is the server's only model, until `check` has asked."""
        self.server = replace(self.server, model=model)
        self._reported = ReportedModel(model)

    def _settle_model(self) -> None:
        if self.model_is_named:
            return
        if len(self._models) != 1:
            offers = self.server.quoted(", ".join(self._models)) or "no list of models"
            raise UsageError(
                f"`model_name`: must be given; the server offers {offers}", quoted=[offers]
            )
        self.recall_model(self._models[0])
        self.model_is_certain = True

    async def chat(
        self,
        text: str,
        n_answers: int,
        seed: int,
        sampling: Sampling,
        *,
        max_retries: int | None = None,
    ) -> Reply:
        """The reply to a prompt. Retries and cost are added to the account.

        Raises `TeacherUnreachable` after the last retry, `TeacherRefused` without a retry,
        `TeacherError` for replies that cannot be used, and `BudgetSpent` if the next try would
        exceed a limit.
        """

        async def ask() -> Reply:
            return await self._ask(text, n_answers, seed, sampling)

        return await self._with_retries(ask, max_retries=max_retries)

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def _with_retries(self, send: Any, *, max_retries: int | None) -> Any:
        allowed = self.server.max_retries if max_retries is None else max_retries
        policy = RetryPolicy(allowed, self.server.first_wait_s)
        retry = 0
        while True:
            try:
                result = await self._send_when_allowed(send)
                self._suspect_until = 0.0
                return result
            except Fault as fault:
                self._account.faults[fault.kind] += 1
                if not (fault.is_passing and policy.allows(retry, fault.retry_after_s)):
                    failed = self._give_up(fault, retry + 1)
                    break
                await self._wait(policy.wait_s(retry, fault.retry_after_s, self._jitter), fault)
                retry += 1
                self._account.retries += 1
        raise failed

    async def _send_when_allowed(self, send: Any) -> Any:
        while True:
            while (wait := self._not_before - time.monotonic()) > 0 and not self._is_closing:
                await self._pause(wait)
            async with self._slots:
                if (
                    self._is_closing or time.monotonic() >= self._not_before
                ):  # Another request may have received a Retry-After meanwhile.
                    return await send()

    async def _wait(self, seconds: float, fault: Fault) -> None:
        if fault.retry_after_s:
            asked = time.monotonic() + fault.retry_after_s
            self._not_before = max(self._not_before, asked)
        await self._pause(seconds)

    @property
    def _is_closing(self) -> bool:
        return self._budget.closed.is_set()  # The budget refuses the next request.

    async def _pause(self, seconds: float) -> None:
        """Wait that long, or until the budget is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._budget.closed.wait()

    def _give_up(self, fault: Fault, tries: int) -> TeacherError:
        if not fault.is_about_the_request:
            self.suspect()
        return failure(self.server, fault, tries, ", ".join(self._models))

    async def _list_models(self) -> str:
        try:
            return await self._exchange.get(
                "/models", timeout_s=CHECK_TIMEOUT_S, max_bytes=_LIST_BYTES
            )
        except Fault as fault:
            if fault.status in (404, 405, 501):
                raise _NoModelList from None
            raise

    async def _ask(self, text: str, n_answers: int, seed: int, sampling: Sampling) -> Reply:
        """One try: the parsed reply. Raises `Fault`."""
        server = self.server
        most = server.prices.most(text, n_answers, sampling.max_tokens) if server.prices else 0.0
        body = self._body(text, n_answers, seed, sampling)
        async with self._budget.request(most):
            try:
                received = await self._exchange.post(
                    "/chat/completions",
                    body,
                    timeout_s=server.timeout_s,
                    max_bytes=_reply_bytes(n_answers, sampling),
                )
            except Fault as fault:
                if fault.status in (400, 422) and n_answers > 1 and not self._several_choices_seen:
                    self.answers_per_request = 1
                    self._account.faults[fault.kind] += 1
                    raise SeveralChoicesRefused from None
                self._account.unknown_cost += most if fault.may_be_charged else 0.0
                raise
            try:
                reply = parse_reply(received)
            except ReplyError as error:
                self._account.unknown_cost += most
                raise Fault("malformed", f"{error.fault}: ", error.body) from None
            self._account.charge(server, text, n_answers, sampling.max_tokens, reply)
        self._refuse_foreign(reply)
        if not any(choice.index < n_answers for choice in reply.choices):
            raise Fault("no_choice", "its reply holds no answer: ", received)
        if len(reply.choices) > 1:
            self._several_choices_seen = True
        elif len(reply.choices) == 1 < n_answers and not self._several_choices_seen:
            self.answers_per_request = 1  # The server ignores `n`.
        return reply

    def _body(self, text: str, n_answers: int, seed: int, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.server.model,
            "messages": [{"role": "user", "content": text}],
            "n": n_answers,
            "seed": seed % _SEEDS,
            "temperature": sampling.temperature,
            "top_p": 1,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return body | dict(self.server.sampler_extras)

    def _refuse_foreign(self, reply: Reply) -> None:
        """Raise `Fault` for a reply of another model, and for one that contains the API key."""
        if any(self._repeats_key(choice) for choice in reply.choices) or self.server.repeats_key(
            reply.model or ""
        ):
            raise Fault("key_repeated", "its reply holds the API key that was sent to it")
        if reply.model is not None and not self._reported.takes(reply.model, self._models):
            raise Fault("wrong_model", "its answers are from another model: ", reply.model)

    def _repeats_key(self, choice: Choice) -> bool:
        tokens = "".join(choice.logprobs.tokens) if choice.logprobs else ""
        return any(map(self.server.repeats_key, (choice.text or "", choice.finish_reason, tokens)))


class _NoModelList(Exception):
    """The server has no list of its models."""


def _reply_bytes(n_answers: int, sampling: Sampling) -> int:
    """Upper bound on the bytes of a valid reply: JSON may write a byte as six characters."""
    logprobs = sampling.max_tokens * (sampling.top_logprobs + 1) * _LOGPROB_BYTES
    return 64 * 1024 + n_answers * (6 * MAX_TEXT_BYTES + logprobs)
