"""One client for every OpenAI-compatible teacher: prompts in, answers out, each stored on arrival.

    server = TeacherServer(base_url=url, model="m", api_key=None, identity=url)
    client = TeacherClient(server, AnswerCache(path))
    answers = await client.answers(prompt, first_index=0, count=4, sampling=Sampling())

Answer i of a prompt is drawn with seed `sampling.seed + i`: n answers are asked for in one request
(`n`, with the seed of the first; llama.cpp counts up from it), and from a server that ignores `n`
one by one. An answer without text is no answer: it is drawn again with `REDRAW_SEED_OFFSET` added
to its seed, `MAX_DRAWS` times in all.

Retries and their backoff are the openai library's: connection faults, time-outs, 408, 409, 429 and
5xx, honouring Retry-After. The key is in no message, log record or repr of ours.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from quantum_hybrid.config import KEY_VARIABLE
from quantum_hybrid.errors import TeacherError, TeacherRefused, TeacherUnreachable, UsageError
from quantum_hybrid.records import Answer, Prompt, Sampling
from quantum_hybrid.teacher.cache import AnswerCache, answer_key
from quantum_hybrid.teacher.replies import Reply, ReplyError, parse_model_names, parse_reply

REDRAW_SEED_OFFSET = 1_000_003
"""Added to an answer's seed each time it came back empty; more than any prompt has answers."""

MAX_DRAWS = 5
"""Empty replies in place of one answer before the prompt is given up."""

MAX_BARREN_ROUNDS = 3
"""Requests in a row without a single choice before the server is given up."""

CHECK_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0

_SEEDS = 2**31  # some servers keep the seed in a signed 32-bit number
_QUOTED_CHARACTERS = 300


@dataclass(frozen=True)
class TeacherServer:
    """Where the teacher is and how it wants to be asked."""

    base_url: str
    """Address up to and including /v1."""
    model: str
    """Empty: the only model the server offers, settled by `TeacherClient.check`."""
    api_key: str | None = field(repr=False)
    """None: no Authorization header is sent."""
    identity: str
    """Names whose answers these are in the cache; the same for the same model at another port."""
    max_concurrent_requests: int = 8
    timeout_s: float = 120.0
    """Longest wait for one reply."""
    sampler_extras: tuple[tuple[str, float], ...] = ()
    """Fields beyond OpenAI's, e.g. llama.cpp's (("top_k", 0), ("min_p", 0.0)). They are part of
    what an answer is stored under."""
    max_retries: int = 5
    answers_per_request: int = 8
    """Largest `n` to ask for."""

    def __post_init__(self) -> None:
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            raise UsageError(
                f"{KEY_VARIABLE}: the API key must be printable ASCII without spaces or line ends"
            )

    def cache_identity(self) -> str:
        """What the cache knows the server by: its identity and the extras it is asked with."""
        return "&".join(
            [self.identity, *(f"{name}={value!r}" for name, value in self.sampler_extras)]
        )


class TeacherClient:
    """Asks one server, and keeps every answer in the cache. Use it within one event loop."""

    def __init__(self, server: TeacherServer, cache: AnswerCache) -> None:
        self.server = server
        self.requests_made = 0
        """Chat requests sent; a request and its retries count as one."""
        self.answers_from_cache = 0
        self.completion_tokens = 0
        """Tokens the teacher wrote; a lower bound where it counts only the first of n answers and
        sends no logprobs."""
        self._cache = cache
        self._openai = _openai_client(server)
        self._headers = {} if server.api_key else {"Authorization": openai.Omit()}
        self._slots = asyncio.Semaphore(server.max_concurrent_requests)
        self._answers_per_request = server.answers_per_request
        self._several_choices_seen = False
        self._models: tuple[str, ...] = ()

    async def check(self) -> tuple[str, ...]:
        """Ask for the list of models: a wrong address or key stops a run before any work.

        Returns the models the server names, empty if it has no such list (then one token was asked
        for instead). Raises `TeacherRefused`, `TeacherUnreachable` or `TeacherError`.
        """
        quick = self._openai.with_options(max_retries=1)
        try:
            reply = await quick.models.with_raw_response.list(
                extra_headers=self._headers, timeout=CHECK_TIMEOUT_S
            )
            self._models = parse_model_names(reply.http_response.text)
            self._settle_model()
            return self._models
        except openai.APIStatusError as error:
            failure = None if error.status_code in (404, 405, 501) else self._failure(error, 2)
        except (openai.OpenAIError, ReplyError) as error:
            failure = self._failure(error, 2)
        if failure is not None:  # raised out here, so that no library exception hangs on it
            raise failure
        self._settle_model()
        await self._request("Hi", 1, 0, Sampling(max_tokens=1), quick)
        return ()

    def _settle_model(self) -> None:
        if self.server.model:
            return
        if len(self._models) != 1:
            offers = self._quoted(", ".join(self._models)) or "no list of models"
            raise UsageError(f"--openai.model_name: must be given; the server offers {offers}")
        self.server = replace(self.server, model=self._models[0])

    async def answers(
        self, prompt: Prompt, first_index: int, count: int, sampling: Sampling
    ) -> list[Answer]:
        """Answers `first_index` to `first_index + count - 1` of the prompt, in this order.

        Those in the cache cost no request. Raises `TeacherUnreachable` after all retries,
        `TeacherRefused` at once, `TeacherError` for replies that cannot be used; answers that had
        arrived by then are in the cache.
        """
        wanted = range(first_index, first_index + count)
        found: dict[int, Answer] = {}
        for index in wanted:
            answer = self._cache.get(self._key(prompt, index, sampling))
            if answer is not None:
                found[index] = replace(answer, prompt_id=prompt.id, index=index)
        self.answers_from_cache += len(found)
        draws = {index: 0 for index in wanted if index not in found}
        barren_rounds = 0
        while draws:
            for index, answer in await self._round(prompt, draws, sampling):
                if answer is None:
                    draws[index] += 1
                else:
                    found[index] = answer
                    del draws[index]
                barren_rounds = -1
            barren_rounds += 1
            self._give_up_if_fruitless(prompt, draws, barren_rounds)
        return [found[index] for index in wanted]

    async def close(self) -> None:
        """Close the connections; the cache stays open."""
        await self._openai.close()

    def _key(self, prompt: Prompt, index: int, sampling: Sampling) -> str:
        return answer_key(
            server_identity=self.server.cache_identity(),
            model=self.server.model,
            prompt_text=prompt.text,
            sampling=sampling,
            index=index,
        )

    async def _round(
        self, prompt: Prompt, draws: dict[int, int], sampling: Sampling
    ) -> list[tuple[int, Answer | None]]:
        """Ask once for every missing answer; what came back, None where it came without text."""
        runs = _contiguous_runs(draws, self._answers_per_request)
        outcomes = await asyncio.gather(
            *(self._draw(prompt, run, draws[run[0]], sampling) for run in runs),
            return_exceptions=True,  # let the others arrive and be stored: they are paid for
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [pair for outcome in outcomes for pair in cast(list, outcome)]

    async def _draw(
        self, prompt: Prompt, indices: list[int], earlier_draws: int, sampling: Sampling
    ) -> list[tuple[int, Answer | None]]:
        """One request for neighbouring answers; stores those that arrive."""
        seed = sampling.seed + indices[0] + REDRAW_SEED_OFFSET * earlier_draws
        try:
            reply = await self._request(prompt.text, len(indices), seed, sampling)
        except _SeveralChoicesRefused:
            self._answers_per_request = 1
            return []
        if len(reply.choices) > 1:
            self._several_choices_seen = True
        if 0 < len(reply.choices) < len(indices):
            self._answers_per_request = min(self._answers_per_request, len(reply.choices))
        drawn: list[tuple[int, Answer | None]] = []
        for index, choice in zip(indices, reply.choices, strict=False):
            answer = None
            if choice.text is not None:
                answer = Answer(
                    prompt_id=prompt.id,
                    index=index,
                    text=choice.text,
                    finish_reason=choice.finish_reason,
                    model=reply.model or self.server.model,
                    logprobs=choice.logprobs if sampling.top_logprobs else None,
                )
                self._cache.put(self._key(prompt, index, sampling), answer)
            drawn.append((index, answer))
        return drawn

    async def _request(
        self,
        text: str,
        count: int,
        seed: int,
        sampling: Sampling,
        client: openai.AsyncOpenAI | None = None,
    ) -> Reply:
        """One chat request, with the library's retries; counts it."""
        client = client or self._openai
        options: dict[str, Any] = {}
        if sampling.top_logprobs:
            options |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        try:
            async with self._slots:
                self.requests_made += 1
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.server.model,
                    messages=[{"role": "user", "content": text}],
                    n=count,
                    seed=seed % _SEEDS,
                    temperature=sampling.temperature,
                    top_p=1,
                    max_tokens=sampling.max_tokens,
                    extra_body=dict(self.server.sampler_extras),
                    extra_headers=self._headers,
                    **options,
                )
            reply = parse_reply(raw.http_response.text)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            several_refused = count > 1 and not self._several_choices_seen
            failure = _SeveralChoicesRefused() if several_refused else self._failure(error)
        except (openai.OpenAIError, ReplyError) as error:
            failure = self._failure(error, client.max_retries + 1)
        else:
            self.completion_tokens += max(
                reply.completion_tokens, _tokens_at_least(reply, sampling)
            )
            return reply
        raise failure  # out here, so that no library exception, which holds the key, hangs on it

    def _give_up_if_fruitless(
        self, prompt: Prompt, draws: dict[int, int], barren_rounds: int
    ) -> None:
        where = f"prompt {prompt.id!r} of teacher {self.server.base_url}"
        for index, empty in draws.items():
            if empty >= MAX_DRAWS:
                raise TeacherError(
                    f"{where}: answer {index} came back without text {empty} times; take the "
                    "prompt out of the prompts file, or ask another model"
                )
        if draws and barren_rounds >= MAX_BARREN_ROUNDS:
            raise TeacherError(
                f"{where}: {barren_rounds} replies in a row held no answer at all; see the "
                "server's log"
            )

    def _failure(self, error: openai.OpenAIError | ReplyError, tries: int = 1) -> TeacherError:
        """What to tell the user: one line, cleaned, with what to do about it."""
        where = f"teacher {self.server.base_url} (model {self.server.model})"
        keep = "answers already received are kept: run again to go on from there"
        if isinstance(error, ReplyError):
            return TeacherError(
                f"{where}: {error.fault}: {self._quoted(error.body)}; is it an OpenAI-compatible "
                "server, and does its address end in /v1?"
            )
        if isinstance(error, openai.APITimeoutError):
            return TeacherUnreachable(f"{where}: no reply in time, {tries} times; {keep}")
        if not isinstance(error, openai.APIStatusError):
            reason = self._quoted(str(error.__cause__ or error))
            return TeacherUnreachable(
                f"{where}: cannot be reached, {tries} times: {reason}; {keep}"
            )
        status = error.status_code
        said = f"HTTP {status}: {self._quoted(_server_message(error))}"
        if status in (401, 403):
            sent = "none was sent" if self.server.api_key is None else "one was sent"
            return TeacherRefused(
                f"{where} refused the API key ({sent}): {said}; check the environment variable "
                f"{KEY_VARIABLE}"
            )
        if status in (408, 409, 429) or status >= 500:
            return TeacherUnreachable(f"{where}: failed {tries} times, last with {said}; {keep}")
        offers = self._quoted(", ".join(self._models))
        return TeacherRefused(
            f"{where} refused the request: {said}" + (f"; it offers: {offers}" if offers else "")
        )

    def _quoted(self, server_text: str) -> str:
        """A server's words on one line: no control characters, no key, bounded."""
        printable = "".join(c if c.isprintable() else " " for c in server_text)
        line = " ".join(printable.split())
        if self.server.api_key:
            line = line.replace(self.server.api_key, "[API key]")
        return line if len(line) <= _QUOTED_CHARACTERS else line[:_QUOTED_CHARACTERS] + "..."


class _SeveralChoicesRefused(TeacherError):
    """A server that never gave several choices refused a request for them: ask for one instead."""


def _openai_client(server: TeacherServer) -> openai.AsyncOpenAI:
    """The library's client, with none of what it would read from the environment."""
    http_client = openai.DefaultAsyncHttpxClient(
        trust_env=not _is_loopback(server.base_url)  # a proxy cannot reach this machine's loopback
    )
    client = openai.AsyncOpenAI(
        api_key=server.api_key or "none",  # None would send OPENAI_API_KEY
        base_url=server.base_url,
        timeout=openai.Timeout(server.timeout_s, connect=min(CONNECT_TIMEOUT_S, server.timeout_s)),
        max_retries=server.max_retries,
        http_client=http_client,
    )
    client.organization = client.project = None
    return client


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _contiguous_runs(draws: dict[int, int], longest: int) -> Iterator[list[int]]:
    """Cut the missing answers into runs that one request can ask for: neighbours, equally often
    drawn, at most `longest` of them."""
    run: list[int] = []
    for index in sorted(draws):
        follows = run and index == run[-1] + 1 and draws[index] == draws[run[-1]]
        if run and (not follows or len(run) >= longest):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _tokens_at_least(reply: Reply, sampling: Sampling) -> int:
    """Tokens that must have been written for these choices, whatever the server counted."""
    total = 0
    for choice in reply.choices:
        if choice.logprobs is not None:
            total += len(choice.logprobs.tokens)
        elif choice.finish_reason == "length":
            total += sampling.max_tokens
        elif choice.text is not None:
            total += 1
    return total


def _server_message(error: openai.APIStatusError) -> str:
    """The message in the server's error object, or the whole body if it holds none."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return message if isinstance(message, str) and message.strip() else error.response.text
