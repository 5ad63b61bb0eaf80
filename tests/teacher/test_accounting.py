"""Every request, fault, token and price is counted; a limit is never exceeded."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from quantum_hybrid.errors import BudgetSpent, TeacherError
from quantum_hybrid.teacher import Account, AnswerCache, Prices, TeacherClient, TeacherServer
from scripted_server import KEY, PROMPT, SAMPLING, ScriptedServer, texts, use

PRICES = Prices(input=2.0, output=10.0)


def account_of(
    server: TeacherServer, cache: AnswerCache, count: int = 4, **limits: Any
) -> tuple[Account, BaseException | None]:
    """The account of one group of answers, and the error that it raised."""

    async def main() -> tuple[Account, BaseException | None]:
        client = TeacherClient(server, cache, **limits)
        try:
            await client.answers(PROMPT, 0, count, SAMPLING)
        except (BudgetSpent, TeacherError) as error:
            return client.account, error
        finally:
            await client.close()
        return client.account, None

    return asyncio.run(main())


def choice(index: int, text: str | int | None, reason: str = "stop") -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": reason}


def body(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 7}
    return {"model": "reported", "choices": list(choices), "usage": usage} | fields


@pytest.mark.parametrize(
    ("step", "faults"),
    [
        (429, {"rate_limited": 1}),
        (500, {"server_error": 1}),
        (408, {"timeout": 1}),
        ('{"choices": [{"mess', {"malformed": 1}),
        ({"error": {"message": "overloaded"}}, {"malformed": 1}),
        (body(), {"no_choice": 1}),
        (body(choice(0, "a"), choice(1, None)), {"empty": 1}),
        (body(choice(0, "a"), choice(1, 7)), {"not_text": 1}),
        (body(choice(0, "a"), choice(1, "b", "content_filter")), {"content_filter": 1}),
        (body(choice(0, "a"), choice(1, "b" * 70_000)), {"oversized": 1}),
        (body(choice(0, "a")), {"missing": 1}),
        (body(choice(1, "b")), {"missing": 1}),
        (body(choice(0, "a"), choice(1, "b"), choice(2, "c")), {"surplus": 1}),
        (body(choice(0, "a"), choice(0, "b"), choice(1, "c")), {"surplus": 1}),
        (body(choice(0, "a"), choice(1, "b"), usage=None), {"no_usage": 1}),
        (body(choice(0, "a"), choice(1, "b"), model="other"), {"wrong_model": 1}),
        (body(choice(0, "a"), choice(1, f"my key is {KEY}")), {"key_repeated": 1}),
        ((200, {"Content-Length": "1000", "Connection": "close"}, "{"), {"connection": 1}),
        ("x" * 10_000_000, {"oversized": 1}),
        ((200, {}, body(choice(0, "a", "length"), choice(1, "b"))), {}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_each_fault_is_counted_once_and_none_is_fatal(scripted, open_cache, step, faults):
    async def work(client: TeacherClient) -> tuple[Account, list[str]]:
        await client.check()
        scripted.script = [step]
        answers = await client.answers(PROMPT, 0, 2, SAMPLING)
        return client.account, [answer.text for answer in answers]

    account, answers = use(scripted.server(), open_cache(), work)
    assert account.faults == faults
    assert account.requests == len(scripted.chats())
    assert account.answers == len(answers) == 2
    assert not any(KEY in answer or not answer for answer in answers)


@pytest.mark.parametrize("asked", [0, 2])
def test_answers_with_a_logprob_that_is_not_finite_are_counted_where_logprobs_are_asked_for(
    scripted, open_cache, asked
):
    def of(value: float) -> dict[str, Any]:
        row = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": value}]}
        return {"logprobs": {"content": [row]}}

    scripted.script = [
        body(
            choice(0, "a") | of(math.nan),
            choice(1, "b") | of(-1.0),
            choice(2, "c") | of(math.inf),
            choice(3, "d") | of(-math.inf),
        )
    ]

    async def work(client: TeacherClient) -> tuple[Account, list[Any]]:
        answers = await client.answers(PROMPT, 0, 4, replace(SAMPLING, top_logprobs=asked))
        return client.account, answers

    account, answers = use(scripted.server(), open_cache(), work)
    assert account.faults == ({"nan_logprobs": 3} if asked else {})
    assert [answer.text for answer in answers] == ["a", "b", "c", "d"]
    assert [answer.logprobs is not None for answer in answers] == [False, bool(asked), False, False]


def test_an_answer_cut_at_its_length_is_kept_and_counted(scripted, open_cache):
    scripted.script = [body(choice(0, "a", "length"), choice(1, "b"))]
    account, error = account_of(scripted.server(), open_cache(), 2)
    assert (account.cut_at_length, account.answers, error) == (1, 2, None)


def test_tokens_and_their_price(scripted, open_cache):
    scripted.script = [body(choice(0, "a"), choice(1, "b"))]
    account, _ = account_of(scripted.server(prices=PRICES), open_cache(), 2)
    assert (account.prompt_tokens, account.completion_tokens) == (3, 7)
    assert account.cost == pytest.approx((3 * 2 + 7 * 10) / 1e6)
    assert account.unknown_cost == 0


@pytest.mark.parametrize("step", [body(choice(0, "a"), usage=None), "{cut", {"choices": []}])
def test_what_a_reply_may_have_cost_is_kept_apart(scripted, open_cache, step):
    scripted.script = [step]
    account, _ = account_of(scripted.server(prices=PRICES), open_cache(), 1)
    assert account.unknown_cost == pytest.approx(PRICES.most(PROMPT.text, 1, SAMPLING.max_tokens))


def test_what_was_never_answered_costs_nothing(scripted, open_cache):
    scripted.script = [429, 500]
    account, _ = account_of(scripted.server(prices=PRICES), open_cache(), 1)
    assert account.unknown_cost == 0


def test_accounts_of_two_starts_add_up(scripted, open_cache):
    scripted.script = [500]
    cache = open_cache()
    one, _ = account_of(scripted.server(prices=PRICES), cache, 2)
    two, _ = account_of(scripted.server(prices=PRICES), cache, 4)
    both = two.plus(one.as_fields())
    assert (both.requests, both.retries, both.answers, both.answers_from_cache) == (3, 1, 4, 2)
    assert both.faults == {"server_error": 1}
    assert both.cost == pytest.approx(one.cost + two.cost)
    assert Account().plus(both.as_fields()).as_fields() == both.as_fields()


def test_max_requests_counts_every_try(scripted, open_cache):
    cache = open_cache()
    scripted.script = [500] * 5
    account, error = account_of(scripted.server(max_retries=9), cache, max_requests=3)
    assert isinstance(error, BudgetSpent)
    assert "`max_requests` 3" in str(error)
    assert account.requests == len(scripted.requests) == 3


def test_what_was_paid_before_a_limit_is_kept_and_a_repeated_run_goes_on(scripted, open_cache):
    cache = open_cache()
    server = scripted.server(answers_per_request=1)
    _, error = account_of(server, cache, 8, max_requests=5)
    assert isinstance(error, BudgetSpent)
    account, error = account_of(server, cache, 8, max_requests=5)
    assert error is None
    assert (account.answers_from_cache, account.requests) == (5, 3)
    assert len(scripted.requests) == 8


def test_no_request_at_all_is_a_limit_too(scripted, open_cache):
    cache = open_cache()
    texts(scripted.server(), cache)
    scripted.requests.clear()
    assert account_of(scripted.server(), cache, max_requests=0)[1] is None
    assert isinstance(account_of(scripted.server(), cache, 5, max_requests=0)[1], BudgetSpent)
    assert scripted.requests == []


@pytest.mark.parametrize("at_once", [1, 8])
def test_max_cost_is_not_overshot_and_used_up(open_cache, at_once):
    """The server charges its stated prices; a request is sent only if its maximum cost fits."""
    server = ScriptedServer()
    try:
        most = PRICES.most(PROMPT.text, 1, SAMPLING.max_tokens)
        really = PRICES.cost(3, 7)
        limit = 3 * really + most
        asked = server.server(prices=PRICES, answers_per_request=1, max_concurrent_requests=at_once)
        account, error = account_of(asked, open_cache(), 64, max_cost=limit)
        assert isinstance(error, BudgetSpent)
        assert "`max_cost`" in str(error)
        assert len(server.requests) == 4, "as long as one more fits, it is sent"
        assert account.cost == pytest.approx(4 * really)
        assert account.cost <= limit
    finally:
        server.close()


def test_what_is_under_way_when_a_client_closes_is_kept(scripted, open_cache):
    """The caller is cancelled, but the server's work is paid for."""
    cache = open_cache()
    arrived, release = scripted.hold()

    async def main() -> None:
        client = TeacherClient(scripted.server(), cache)
        waiting = asyncio.create_task(client.answers(PROMPT, 0, 2, SAMPLING))
        await asyncio.to_thread(arrived.wait)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        release.set()
        await closing

    asyncio.run(main())
    scripted.requests.clear()
    assert texts(scripted.server(), cache, 2) == ["text 100", "text 101"]
    assert scripted.requests == []


def test_a_closed_client_does_not_wait_to_try_again(scripted, open_cache):
    """The only open task is a retry in an hour, and close does not wait for it."""

    async def main() -> None:
        client = TeacherClient(
            replace(scripted.server(), first_wait_s=20.0, grace_s=3600.0), open_cache()
        )
        scripted.script = [500]
        waiting = asyncio.create_task(client.answers(PROMPT, 0, 2, SAMPLING))
        while not client.account.faults:
            await asyncio.sleep(0.001)
        waiting.cancel()
        await client.close()

    asyncio.run(asyncio.wait_for(main(), 15))
    assert len(scripted.requests) == 1
