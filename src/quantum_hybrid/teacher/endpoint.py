"""One server while it is being asked: its free places, its retries, the model it answers as.

    endpoint = Endpoint(server, budget, account, jitter)
    reply = await endpoint.chat(prompt_text, n_answers, seed, sampling)

Every try takes a place (`max_concurrent_requests`) and room in the budget; while it waits to try
again it holds neither. A Retry-After holds up all requests to the server, not only the one that
was told.
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
"""How long a server that failed is asked only where no other one is left."""

_SEEDS = 2**31  # some servers keep the seed in a signed 32-bit number
_LIST_BYTES = 4 * 2**20
_LOGPROB_BYTES = 400
"""More than one token's name, number and logprob take as JSON."""


class SeveralChoicesRefused(TeacherError):
    """A server that never gave several choices refused a request for them: ask for one instead."""


class Endpoint:
    """One server as the client sees it. Use it within one event loop."""

    def __init__(
        self, server: TeacherServer, budget: Budget, account: Account, jitter: random.Random
    ) -> None:
        self.server = server
        """Its model is filled in once that is known."""
        self.model_is_named = bool(server.model)
        self.model_is_certain = self.model_is_named
        """Whether the user named it, or the server did since this program started."""
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
        """Whether it failed lately, so that others are asked first."""
        return time.monotonic() < self._suspect_until

    def suspect(self) -> None:
        """Ask others first for a while."""
        self._suspect_until = time.monotonic() + COOL_DOWN_S

    async def check(self) -> tuple[str, ...]:
        """Ask for the list of models, and settle which one is asked.

        Returns the models the server names, empty if it has no such list (then one token was asked
        for instead). Raises `TeacherError`, `UsageError` where no model is named and several are
        offered.
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
        """Take this one for the server's only model, until it is asked."""
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
        """A reply to the prompt, with retries; counts them, and what the reply cost.

        Raises `TeacherUnreachable` after the last retry, `TeacherRefused` at once, `TeacherError`
        for replies that cannot be used, `BudgetSpent` where the next try would go beyond a limit.
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
                ):  # another request may have been told so
                    return await send()

    async def _wait(self, seconds: float, fault: Fault) -> None:
        if fault.retry_after_s:
            asked = time.monotonic() + fault.retry_after_s
            self._not_before = max(self._not_before, asked)
        await self._pause(seconds)

    @property
    def _is_closing(self) -> bool:
        return self._budget.closed.is_set()  # the next request will be refused

    async def _pause(self, seconds: float) -> None:
        """Wait as long as that, or until nothing more is to be asked."""
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
        """One try: the reply as parsed, or a `Fault`."""
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
            self.answers_per_request = 1  # it ignores n
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
        """Raise a `Fault` for text that is not this model's, or that gives the key away."""
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
    """The longest reply that can be one: JSON may spell a byte with six characters."""
    logprobs = sampling.max_tokens * (sampling.top_logprobs + 1) * _LOGPROB_BYTES
    return 64 * 1024 + n_answers * (6 * MAX_TEXT_BYTES + logprobs)
