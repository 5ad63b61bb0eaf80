"""Several servers: the first that works is used, and every answer names its server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from quantum_hybrid.errors import TeacherRefused, TeacherUnreachable
from quantum_hybrid.teacher import AnswerCache, TeacherClient, TeacherServer
from scripted_server import PROMPT, SAMPLING, use

T = TypeVar("T")


@pytest.fixture
def pair(scripted, spare) -> tuple[TeacherServer, TeacherServer]:
    """Two servers with different models."""
    first = scripted.server(model="m", identity="first", max_retries=1)
    return first, spare.server(model="other", identity="second", max_retries=1)


def use_pair(
    servers: tuple[TeacherServer, TeacherServer],
    cache: AnswerCache,
    work: Callable[[TeacherClient], Coroutine[Any, Any, T]],
    said: list[str] | None = None,
) -> T:
    """Run a function with both servers; `said` collects the client's messages."""
    lines = [] if said is None else said
    return use(servers[0], cache, work, spares=servers[1:], announce=lines.append)


async def ask(client: TeacherClient, count: int = 4, first: int = 0) -> list[str]:
    answers = await client.answers(PROMPT, first, count, SAMPLING)
    return [answer.text for answer in answers]


@pytest.mark.parametrize("fault", [500, "{cut", (429, {"Retry-After": "9999"}, {})])
def test_the_next_server_is_asked_when_one_fails(scripted, spare, pair, open_cache, fault):
    scripted.script = [fault] * 2
    said: list[str] = []

    async def work(client: TeacherClient) -> dict[str, int]:
        assert await ask(client) == [f"text {i}" for i in range(100, 104)]
        assert await ask(client, first=4) == [f"text {i}" for i in range(104, 108)]
        return client.account.answers_by_teacher

    by_teacher = use_pair(pair, open_cache(), work, said)
    assert by_teacher == {f"reported {pair[1].identity}": 8}
    assert len(spare.requests) == 2
    assert len(scripted.requests) <= 2, "a server that failed is left alone for a while"
    assert len(said) == 1
    assert f"asking {spare.base_url}" in said[0]


def test_what_a_spare_wrote_is_found_again_under_its_own_name(scripted, spare, pair, open_cache):
    cache = open_cache()
    spare.completion = scripted.completion
    scripted.script = [500] * 2
    spare.script = [scripted.completion("from the spare", "and again")]
    expected = ["from the spare", "and again"]
    assert use_pair(pair, cache, lambda c: ask(c, 2)) == expected
    scripted.requests.clear()
    spare.requests.clear()
    assert use_pair(pair, cache, lambda c: ask(c, 2)) == expected
    assert use(pair[1], cache, lambda c: ask(c, 2)) == expected
    assert scripted.requests == spare.requests == []
    assert use(pair[0], cache, lambda c: ask(c, 2)) == ["text 100", "text 101"]


def test_a_failed_server_is_asked_again_where_none_is_left(scripted, spare, pair, open_cache):
    async def work(client: TeacherClient) -> None:
        scripted.script, spare.script = [500] * 2, [500] * 2
        with pytest.raises(TeacherUnreachable, match=scripted.base_url):
            await ask(client)
        assert await ask(client) == [f"text {i}" for i in range(100, 104)]

    use_pair(pair, open_cache(), work)


def test_a_refused_prompt_does_not_shut_a_server_out(scripted, spare, pair, open_cache):
    async def work(client: TeacherClient) -> None:
        scripted.script = [400]
        assert await ask(client, 1) == ["text 100"]
        assert await ask(client, 1, first=1) == ["text 101"]

    use_pair(pair, open_cache(), work)
    assert (len(scripted.requests), len(spare.requests)) == (2, 1)


def test_check_goes_on_without_a_server_that_is_away(scripted, spare, pair, open_cache):
    said: list[str] = []
    scripted.script = [500] * 2
    assert use_pair(pair, open_cache(), lambda c: c.check(), said) == ("m", "other")
    assert len(said) == 1
    assert scripted.base_url in said[0]


def test_check_stops_at_a_refused_key_of_any_server(scripted, spare, pair, open_cache):
    spare.script = [401]
    with pytest.raises(TeacherRefused, match=spare.base_url):
        use_pair(pair, open_cache(), lambda c: c.check())


def test_each_server_gets_its_own_key_only(scripted, spare, open_cache):
    servers = (scripted.server(max_retries=0), spare.server(api_key=None, identity="second"))
    scripted.script = [500]
    use_pair(servers, open_cache(), ask)
    assert "Authorization" in scripted.requests[0]["headers"]
    assert "Authorization" not in spare.requests[0]["headers"]
