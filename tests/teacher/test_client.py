"""The client with a real server that misbehaves: retries, stored answers and messages."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace

import pytest

from quantum_hybrid.errors import (
    TeacherError,
    TeacherRefused,
    TeacherSilent,
    TeacherUnreachable,
    UsageError,
)
from quantum_hybrid.keys import KEY_VARIABLE
from quantum_hybrid.teacher import TeacherClient, TeacherServer
from quantum_hybrid.teacher.client import MAX_DRAWS, REDRAW_SEED_OFFSET
from scripted_server import PROMPT, SAMPLING, texts, use


def asked_for(scripted) -> list[tuple[int, int]]:
    """(seed, n) of each chat request."""
    return [(chat["seed"], chat["n"]) for chat in scripted.chats()]


def test_one_request_for_a_group(scripted, open_cache):
    assert texts(scripted.server(), open_cache()) == [f"text {i}" for i in range(100, 104)]
    (request,) = scripted.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["Authorization"] == f"Bearer {scripted.server().api_key}"
    assert request["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Say something."}],
        "n": 4,
        "seed": 100,
        "temperature": 1.0,
        "top_p": 1,
        "max_tokens": 8,
    }


def test_extras_and_logprobs_are_asked_for_when_wanted(scripted, open_cache):
    server = scripted.server(sampler_extras=(("top_k", 0), ("min_p", 0.0)))
    texts(server, open_cache(), sampling=replace(SAMPLING, top_logprobs=3))
    (body,) = scripted.chats()
    assert {name: body[name] for name in ("top_k", "min_p", "logprobs", "top_logprobs")} == {
        "top_k": 0,
        "min_p": 0.0,
        "logprobs": True,
        "top_logprobs": 3,
    }


def test_kept_answers_cost_no_request(scripted, open_cache):
    cache = open_cache()
    first = texts(scripted.server(), cache)
    scripted.requests.clear()

    async def again(client: TeacherClient) -> list[str]:
        renamed = replace(PROMPT, id="another name")
        answers = await client.answers(renamed, 0, 4, SAMPLING)
        assert {answer.prompt_id for answer in answers} == {"another name"}
        assert (client.account.requests, client.account.answers_from_cache) == (0, 4)
        return [answer.text for answer in answers]

    assert use(scripted.server(), cache, again) == first
    assert scripted.requests == []


def test_the_id_of_a_prompt_is_no_part_of_what_is_kept(scripted, open_cache):
    """Two files of prompts may give the same id to different texts."""
    cache = open_cache()
    texts(scripted.server(), cache)
    scripted.requests.clear()
    other = replace(PROMPT, text="Say something else.")
    use(scripted.server(), cache, lambda client: client.answers(other, 0, 4, SAMPLING))
    assert [chat["messages"][0]["content"] for chat in scripted.chats()] == [other.text]


def test_only_what_is_missing_is_asked_for(scripted, open_cache):
    cache = open_cache()
    texts(scripted.server(), cache, first=2, count=1)
    texts(scripted.server(), cache, first=5, count=2)
    scripted.requests.clear()
    assert texts(scripted.server(), cache, count=8) == [f"text {i}" for i in range(100, 108)]
    assert sorted(asked_for(scripted)) == [(100, 2), (103, 2), (107, 1)]


def test_extras_are_part_of_what_is_kept(scripted, open_cache):
    texts(scripted.server(), open_cache())
    texts(scripted.server(sampler_extras=(("top_k", 0),)), open_cache())
    assert len(scripted.requests) == 2


def test_corrupt_row_is_asked_for_again(scripted, open_cache):
    cache = open_cache()
    texts(scripted.server(), cache)
    cache._connection.execute(
        "UPDATE answers SET checksum = 'no' WHERE CAST(value AS TEXT) LIKE '%text 102%'"
    )
    scripted.requests.clear()
    assert texts(scripted.server(), cache) == [f"text {i}" for i in range(100, 104)]
    assert asked_for(scripted) == [(102, 1)]
    assert cache.corrupt_rows == 1


def test_many_answers_are_asked_for_in_parts(scripted, open_cache):
    server = scripted.server(answers_per_request=3)
    assert texts(server, open_cache(), count=8) == [f"text {i}" for i in range(100, 108)]
    assert sorted(asked_for(scripted)) == [(100, 3), (103, 3), (106, 2)]


def test_server_that_ignores_n_is_asked_one_by_one(scripted, open_cache):
    scripted.script = [scripted.completion("only one")]
    expected = ["only one", "text 101", "text 102", "text 103"]
    assert texts(scripted.server(), open_cache()) == expected
    assert sorted(asked_for(scripted)) == [(100, 4), (101, 1), (102, 1), (103, 1)]


def test_server_that_refuses_n_is_asked_one_by_one(scripted, open_cache):
    scripted.script = [400]
    assert texts(scripted.server(), open_cache(), count=2) == ["text 100", "text 101"]
    assert sorted(asked_for(scripted)) == [(100, 1), (100, 2), (101, 1)]


def test_fewer_choices_than_asked_are_completed(scripted, open_cache):
    scripted.script = [scripted.completion("a", "b", "c")]
    assert texts(scripted.server(), open_cache()) == ["a", "b", "c", "text 103"]


def test_more_choices_than_asked_are_left(scripted, open_cache):
    scripted.script = [scripted.completion("a", "b", "c")]
    assert texts(scripted.server(), open_cache(), count=2) == ["a", "b"]


@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_empty_answer_is_drawn_again_with_another_seed(scripted, open_cache, blank):
    scripted.script = [scripted.completion("a", blank, "c"), scripted.completion(blank)]
    expected = ["a", f"text {101 + 2 * REDRAW_SEED_OFFSET}", "c"]
    assert texts(scripted.server(), open_cache(), count=3) == expected
    assert asked_for(scripted) == [
        (100, 3),
        (101 + REDRAW_SEED_OFFSET, 1),
        (101 + 2 * REDRAW_SEED_OFFSET, 1),
    ]


def test_prompt_that_only_gets_empty_answers_is_named_and_never_asked_again(scripted, open_cache):
    cache = open_cache()
    withheld = scripted.completion("secret", finish_reason="content_filter")
    scripted.script = [withheld] * 20
    for _ in range(2):
        with pytest.raises(TeacherSilent, match=r"prompt 'p1'.*\(content_filter\)"):
            texts(scripted.server(), cache, count=1)
    assert len(scripted.requests) == MAX_DRAWS
    assert b"secret" not in cache.path.read_bytes()


def test_server_without_choices_is_given_up(scripted, open_cache):
    scripted.script = [scripted.completion()] * 20
    with pytest.raises(TeacherError, match="holds no answer"):
        texts(scripted.server(), open_cache())
    assert len(scripted.requests) == 3


def test_missing_logprobs_are_none(scripted, open_cache):
    sampling = replace(SAMPLING, top_logprobs=3)
    answers = use(scripted.server(), open_cache(), lambda c: c.answers(PROMPT, 0, 2, sampling))
    assert [answer.logprobs for answer in answers] == [None, None]


def test_finish_reason_and_reported_model_are_kept(scripted, open_cache):
    scripted.script = [scripted.completion("cut", finish_reason="length")]
    (answer,) = use(scripted.server(), open_cache(), lambda c: c.answers(PROMPT, 0, 1, SAMPLING))
    assert (answer.finish_reason, answer.model) == ("length", "reported")


def test_what_arrived_is_kept_when_the_rest_fails(scripted, open_cache):
    cache = open_cache()
    scripted.script = [scripted.completion("a", "b"), 403]
    with pytest.raises(TeacherRefused):
        texts(scripted.server(), cache)
    scripted.requests.clear()
    assert texts(scripted.server(), cache, count=2) == ["a", "b"]
    assert scripted.requests == []


def test_passing_faults_are_retried(scripted, open_cache):
    too_many = (429, {"Retry-After": "0"}, {"error": {"message": "slow down"}})
    scripted.script = [500, too_many]
    assert texts(scripted.server(), open_cache(), count=1) == ["text 100"]
    assert len(scripted.requests) == 3


def test_lasting_fault_is_unreachable(scripted, open_cache):
    scripted.script = [500] * 20
    with pytest.raises(TeacherUnreachable, match="failed 2 times, last with HTTP 500"):
        texts(scripted.server(max_retries=1), open_cache())
    assert len(scripted.requests) == 2


def test_torn_connection_is_unreachable(scripted, open_cache):
    scripted.script = [(200, {"Content-Length": "1000", "Connection": "close"}, '{"choices": [')]
    with pytest.raises(TeacherUnreachable, match="cannot be reached"):
        texts(scripted.server(max_retries=0), open_cache())


def test_connection_refused_is_unreachable(open_cache):
    with socket.socket() as taken:  # bound and not listening: nobody answers, nobody else gets it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        server = TeacherServer(url, "m", None, "x", max_retries=0)
        with pytest.raises(TeacherUnreachable, match=url):
            texts(server, open_cache())
        with pytest.raises(TeacherUnreachable, match=url):
            use(server, open_cache(), lambda c: c.check())


def test_silent_server_is_unreachable(open_cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        server = TeacherServer(url, "m", None, "x", max_retries=0, timeout_s=0.05)
        with pytest.raises(TeacherUnreachable, match="no reply in time"):
            texts(server, open_cache())


@pytest.mark.parametrize("body", ['{"choices": [{"message"', "<html>Hello</html>", "[]"])
def test_reply_that_is_no_completion_names_the_server(scripted, open_cache, body):
    scripted.script = [body] * 3
    with pytest.raises(TeacherError, match=scripted.base_url):
        texts(scripted.server(), open_cache())
    assert len(scripted.requests) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_stops_at_once(scripted, open_cache, status):
    for work in (lambda c: c.check(), lambda c: c.answers(PROMPT, 0, 4, SAMPLING)):
        scripted.script = [status]
        scripted.requests.clear()
        with pytest.raises(TeacherRefused, match=f"model m.*{KEY_VARIABLE}") as caught:
            use(scripted.server(), open_cache(), work)
        assert scripted.base_url in str(caught.value)
        assert len(scripted.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
def test_refused_request_is_quoted_and_not_repeated(scripted, open_cache, status):
    said = {"error": {"message": "no model\n\x1b[31mnamed \x00m" + "!" * 10_000}}
    scripted.script = [(status, {}, said)]
    with pytest.raises(TeacherRefused, match=r"no model named m!") as caught:
        texts(scripted.server(), open_cache(), count=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert len(scripted.requests) == 1


def test_wrong_model_is_told_what_there_is(scripted, open_cache):
    scripted.script = [{"data": [{"id": "m1"}, {"id": "m2"}]}, 404]

    async def work(client: TeacherClient) -> None:
        assert await client.check() == ("m1", "m2")
        await client.answers(PROMPT, 0, 1, SAMPLING)

    with pytest.raises(TeacherRefused, match="it offers: m1, m2"):
        use(scripted.server(), open_cache(), work)


def test_check_asks_for_one_token_where_there_is_no_list(scripted, open_cache):
    scripted.script = [404]
    assert use(scripted.server(), open_cache(), lambda c: c.check()) == ()
    (chat,) = scripted.chats()
    assert chat["max_tokens"] == 1


def test_check_finds_an_address_that_is_no_api(scripted, open_cache):
    scripted.script = ["<html>Welcome</html>"]
    with pytest.raises(TeacherError, match="end in /v1"):
        use(scripted.server(), open_cache(), lambda c: c.check())


def test_requests_at_once_are_bounded_and_share_connections(scripted, open_cache):
    async def work(client: TeacherClient) -> int:
        prompts = [replace(PROMPT, text=f"prompt {i}") for i in range(12)]
        await asyncio.gather(*(client.answers(p, 0, 1, SAMPLING) for p in prompts))
        return client.account.requests

    server = scripted.server(max_concurrent_requests=2)
    assert use(server, open_cache(), work) == 12
    assert scripted.connections <= 2


def test_environment_of_the_openai_library_is_not_sent(scripted, open_cache, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "not-for-this-server")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    texts(scripted.server(api_key=None), open_cache(), count=1)
    (request,) = scripted.requests
    assert "Authorization" not in request["headers"]
    assert "not-for-this-server" not in str(request)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", ["check", "answers"])
def test_the_key_does_not_follow_a_redirect(scripted, spare, open_cache, status, ask):
    scripted.script = [(status, {"Location": f"{spare.base_url}/models"}, {})]

    async def work(client: TeacherClient) -> None:
        await (client.check() if ask == "check" else client.answers(PROMPT, 0, 1, SAMPLING))

    with pytest.raises(TeacherRefused, match=f"moved to another address.*{spare.base_url}"):
        use(scripted.server(), open_cache(), work)
    assert spare.requests == []
    assert len(scripted.requests) == 1


def test_key_is_shown_nowhere(scripted, open_cache, caplog):
    """A server that repeats the key does not bring it into a log record or the cache."""
    caplog.set_level(logging.DEBUG)
    server, cache = scripted.server(max_retries=0), open_cache()
    key = server.api_key
    assert key is not None
    texts(server, cache)
    shown = [
        repr(server),
        repr(TeacherClient),
        *(p.read_bytes().decode("latin-1") for p in cache.path.parent.iterdir()),
    ]
    echo = {"error": {"message": f"bad key {key}\x00{key} in Bearer {key}"}}
    for step in ((401, {}, echo), (400, {}, echo), (500, {}, echo), f"<html>{'x' * 290}{key}"):
        for work in (lambda c: c.check(), lambda c: c.answers(PROMPT, 9, 1, SAMPLING)):
            scripted.script = [step] * 3
            with pytest.raises(TeacherError) as caught:
                use(server, cache, work)
            error: BaseException | None = caught.value
            while error is not None:
                shown += [str(error), repr(error)]
                error = error.__cause__ or error.__context__
    shown += [record.getMessage() + str(record.__dict__) for record in caplog.records]
    assert caplog.records
    assert not any(key[:12] in text for text in shown)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_impossible_key_is_refused_without_showing_it(key):
    with pytest.raises(UsageError, match=KEY_VARIABLE) as caught:
        TeacherServer("http://127.0.0.1:1/v1", "m", key, "x")
    assert not key.strip() or key not in str(caught.value)
