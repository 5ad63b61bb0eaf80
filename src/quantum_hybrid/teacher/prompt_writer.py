"""Prompts that the embedded teacher writes itself (Magpie, Xu et al. 2024, arXiv:2406.08464).

    async with aclosing(PromptWriter(embedded.server, cache, seed=0).candidates()) as candidates:
        async for answer in candidates: ...

A chat model that is given its template up to and including the user's header writes what a user
would ask. A candidate ends at the end-of-turn token, at a blank line or after `MAX_TOKENS` tokens.
Candidate i of a seed has a sampling seed of its own, so it depends on the model, the seed and i
only, not on what is written at the same time.

The temperature is 1, the model's own distribution but for its tail: the least likely 5 % of each
token's probability are cut (top_p). Without the cut, 9 of 48 texts of the embedded model rambled
on for 96 tokens; with it, 25 of 448. At temperature 0.7, 2 of 248 did, but careers, fashion
brands and product launches return again and again.

Every candidate is stored in the cache of answers on arrival, under its own server identity: an
interrupted selection goes on from there. Only llama.cpp can be asked for its template, so there are
no such prompts from another server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any

from quantum_hybrid.errors import TeacherError
from quantum_hybrid.teacher.cache import AnswerCache
from quantum_hybrid.teacher.exchange import Exchange
from quantum_hybrid.teacher.faults import Fault, failure
from quantum_hybrid.teacher.replies import ReplyError, parse_object
from quantum_hybrid.teacher.request import AnswerRequest
from quantum_hybrid.teacher.server import TeacherServer
from quantum_hybrid.text.records import Answer, Prompt, Sampling
from quantum_hybrid.text.selection import PromptSelection

MAX_TOKENS = 64
"""Longest candidate: one in twenty is longer, and most of these ramble."""
MAX_LEFT_OUT_IN_A_ROW = 500
"""Consecutive candidates without a usable one, after which no more can be expected."""
TOP_P = 0.95
STOP = "\n\n"
SEED_STRIDE = 1_000_003
"""Distance between the first sampling seeds of consecutive seeds, so that they share none."""
_SEEDS = 2**31
_REPLY_BYTES = 2**20
_PLACE = "<<text of the user>>"
"""Stands for the user's text while the server fills in its template."""


class PromptWriter:
    """Candidates for prompts from the embedded teacher. Use it within one event loop."""

    def __init__(self, server: TeacherServer, cache: AnswerCache, seed: int) -> None:
        root = server.base_url.removesuffix("/v1")  # The template's address is not below /v1.
        self._server = replace(server, base_url=root)
        self._identity = f"{server.cache_identity()}&completions&top_p={TOP_P}&stop={STOP!r}"
        self._cache = cache
        self._seed = seed
        self._sampling = Sampling(MAX_TOKENS, 1.0, seed * SEED_STRIDE % _SEEDS)

    async def candidates(self) -> AsyncGenerator[Answer, None]:
        """Candidate 0, 1, 2, ... without end, in this order; several are written at a time.

        The `prompt_id` names the seed and the index. Raises `TeacherError` if the server fails.
        Close the iterator to cancel what is under way.
        """
        exchange = Exchange(self._server)
        under_way: deque[asyncio.Task[Answer]] = deque()
        try:
            header = await self._user_header(exchange)
            for index in count():
                under_way.append(asyncio.create_task(self._candidate(exchange, header, index)))
                if len(under_way) >= 2 * self._server.max_concurrent_requests:
                    candidate = await under_way[0]
                    under_way.popleft()
                    yield candidate
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await exchange.close()

    async def prompts(self, selection: PromptSelection) -> AsyncGenerator[Prompt, None]:
        """The candidates that the selection keeps, without end.

        Raises `TeacherError` if no more can be expected, or as `candidates` does.
        """
        n_in_a_row = 0
        async with aclosing(self.candidates()) as candidates:
            async for candidate in candidates:
                if selection.offer(candidate):
                    n_in_a_row = 0
                    yield selection.prompts[-1]
                    continue
                n_in_a_row += 1
                if n_in_a_row == MAX_LEFT_OUT_IN_A_ROW:
                    raise TeacherError(
                        f"the teacher's last {n_in_a_row} candidates were of no use, so it stops "
                        f"at {selection.summary}"
                    )

    async def _user_header(self, exchange: Exchange) -> str:
        """The chat template up to the place of the user's text."""
        body = {"messages": [{"role": "user", "content": _PLACE}]}
        filled = (await self._post(exchange, "/apply-template", body)).get("prompt")
        if not isinstance(filled, str) or _PLACE not in filled:
            raise self._unusable("its reply holds no filled template: ", str(filled))
        return filled.partition(_PLACE)[0]

    async def _candidate(self, exchange: Exchange, header: str, index: int) -> Answer:
        request = AnswerRequest(self._identity, self._server.model, header, self._sampling, index)
        kept = self._cache.get(request)
        if kept is not None:
            return kept
        self._cache.require_room()
        body = {
            "model": self._server.model,
            "prompt": header,
            "seed": (self._sampling.seed + index) % _SEEDS,
            "temperature": self._sampling.temperature,
            "top_p": TOP_P,
            "max_tokens": self._sampling.max_tokens,
            "stop": [STOP],
        }
        body |= dict(self._server.sampler_extras)
        reply = await self._post(exchange, "/v1/completions", body)
        answer = self._answer(reply, index)
        return self._cache.put([(request, answer)])[0]

    def _answer(self, reply: dict[str, Any], index: int) -> Answer:
        match reply:
            case {"choices": [{"text": str(text), "finish_reason": str(reason)}]}:
                name = f"written-{self._seed}-{index}"
                return Answer(name, index, text, reason, self._server.model)
        raise self._unusable("its reply holds no text: ", str(reply))

    async def _post(self, exchange: Exchange, path: str, body: dict[str, Any]) -> dict[str, Any]:
        timeout_s = self._server.timeout_s
        try:
            return parse_object(
                await exchange.post(path, body, timeout_s=timeout_s, max_bytes=_REPLY_BYTES)
            )
        except Fault as fault:
            raise failure(self._server, fault, 1) from None
        except ReplyError as error:
            raise self._unusable(f"{error.fault}: ", error.body) from None

    def _unusable(self, what: str, words: str) -> Exception:
        return failure(self._server, Fault("malformed", what, words), 1)
