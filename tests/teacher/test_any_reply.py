"""For arbitrary bytes from a server the client returns a reply or counts a fault."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misbehaving_server import KEY, MODEL, MisbehavingServer
from quantum_hybrid.errors import TeacherError, UsageError
from quantum_hybrid.teacher import Account, TeacherServer
from quantum_hybrid.teacher.budget import Budget
from quantum_hybrid.teacher.endpoint import Endpoint
from quantum_hybrid.teacher.replies import Reply
from quantum_hybrid.text.records import Sampling

DIGITS = "9" * 5000
SAMPLING = Sampling(max_tokens=4, top_logprobs=2)


class Sending(MisbehavingServer):
    """A server that answers every request with these bytes and closes the connection."""

    sent = b""

    def _good(self, request: dict[str, Any]) -> Any:
        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(self.sent)
            await writer.drain()

        return send


@pytest.fixture(scope="module")
def asked() -> Iterator[Callable[[bytes], tuple[Reply | Account, str]]]:
    """The client's result for these bytes, a reply or its fault's account, and its message."""
    with Sending(seed=0, fault_share=0.0) as sending:
        server = TeacherServer(sending.base_url, MODEL, KEY, "x", max_retries=0)

        async def ask() -> tuple[Reply | Account, str]:
            account = Account()
            endpoint = Endpoint(server, Budget(account), account, random.Random(0))
            try:
                return await endpoint.chat("Hi", 1, 0, SAMPLING), ""
            except TeacherError as error:
                return account, str(error)
            finally:
                await endpoint.close()

        def outcome(sent: bytes) -> tuple[Reply | Account, str]:
            sending.sent = sent
            found, said = asyncio.run(ask())
            assert isinstance(found, Reply) or found.faults, "what went wrong is counted"
            assert said.isprintable()
            return found, said

        yield outcome


@pytest.fixture(scope="module")
def outcome_of(asked) -> Callable[[bytes], Reply | Account]:
    return lambda sent: asked(sent)[0]


@pytest.fixture(scope="module")
def error_of(asked) -> Callable[[bytes], str]:
    return lambda sent: asked(sent)[1]


def wire(status: str = "200 OK", body: str = "{}", **headers: str) -> bytes:
    """A complete reply; _ in header names stands for -."""
    content = body.encode("utf-8", "surrogatepass")
    fields = {"Content-Length": str(len(content))} | headers
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items()]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1", "replace") + content


def json_object(fields: dict[str, str]) -> str:
    """A JSON object from values that are JSON text already."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def whole(**changes: str) -> str:
    """A chat completion; `changes` are fields of its choice as JSON."""
    fields = {"index": "0", "message": '{"content": "Yes."}', "finish_reason": '"stop"'} | changes
    return json_object({"choices": f"[{json_object(fields)}]"})


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
        f"Mon, 01 Jan {DIGITS} 00:00:00 GMT",
        DIGITS,
    ],
    ids=lambda date: date[:40],
)
def test_a_time_to_wait_that_no_calendar_has_is_no_time(outcome_of, date) -> None:
    account = outcome_of(wire("429 Too Many", Retry_After=date))
    assert account.faults == {"rate_limited": 1}


def test_cookies_are_not_read(outcome_of) -> None:
    """Python's cookie parser prints a stack trace for a year out of range."""
    never = f"a=b; expires=Mon, 01-Jan-{DIGITS} 00:00:00 GMT"
    assert outcome_of(wire(body=whole(), Set_Cookie=never)).choices[0].text == "Yes."


@pytest.mark.parametrize("declared", ["gzip", "br", "", "identity"])
def test_a_compressed_reply_is_named_so(error_of, declared) -> None:
    content = gzip.compress(whole().encode("utf-8"))
    headers = f"Content-Length: {len(content)}\r\nContent-Encoding: {declared}\r\n\r\n"
    reply = headers.encode("ascii") + content
    coding = declared if declared in ("gzip", "br") else "gzip"
    said = error_of(b"HTTP/1.1 200 OK\r\n" + reply)
    assert f"its reply is compressed, which was not asked for: {coding};" in said
    said = error_of(b"HTTP/1.1 400 Bad\r\n" + reply)
    assert f"HTTP 400: (compressed: {coding})" in said


def test_a_reply_that_is_text_may_say_that_it_is_compressed(outcome_of) -> None:
    assert outcome_of(wire(body=whole(), Content_Encoding="gzip")).choices[0].text == "Yes."


@pytest.mark.parametrize("name", ["Content_Length", "Transfer_Encoding"])
@pytest.mark.parametrize("value", [DIGITS, "-1", "1e9", "nan", "chunked, chunked"], ids=len)
def test_a_length_that_cannot_be_is_a_broken_connection(outcome_of, name, value) -> None:
    assert outcome_of(wire(body=whole(), **{name: value})).faults == {"connection": 1}


@pytest.mark.parametrize("number", [DIGITS, "9" * 4000, "1e999", "NaN", "-Infinity"], ids=len)
@pytest.mark.parametrize("place", ["index", "message", "finish_reason", "logprobs"])
def test_numbers_of_any_size_anywhere(outcome_of, place, number) -> None:
    row = f'{{"token": "x", "logprob": {number}, "top_logprobs": [{{"logprob": {number}}}]}}'
    value = f'{{"content": [{row}]}}' if place == "logprobs" else number
    outcome = outcome_of(wire(body=whole(**{place: value})))
    if isinstance(outcome, Account):  # Python refuses to read integers of so many digits
        assert outcome.faults.total() == (1 if number == DIGITS else 2), "no_usage comes on top"
    else:
        assert outcome.choices[0].logprobs is None


@pytest.mark.parametrize("name", ["\\ud800", " "])
def test_a_model_whose_name_cannot_be_asked_for_is_none(scripted, name) -> None:
    scripted.script = [f'{{"data": [{{"id": "{name}"}}, {{"id": 5}}]}}']
    server = scripted.server(model="")

    async def check() -> None:
        account = Account()
        endpoint = Endpoint(server, Budget(account), account, random.Random(0))
        try:
            await endpoint.check()
        finally:
            await endpoint.close()

    with pytest.raises(UsageError, match="the server offers no list of models"):
        asyncio.run(check())


NUMBERS = ["0", "-1", "1e999", "-0.0", "9" * 400, "9" * 4301, "NaN", "Infinity", "true", "null"]
STRINGS = [
    '""',
    '"x"',
    '"\\ud800"',
    '"\\u202e\\u001b[31m"',
    f'"{"x" * 5000}"',
    f'"token_id:{DIGITS}"',
]
NAMES = [
    "choices", "index", "message", "content", "finish_reason", "logprobs", "top_logprobs",
    "logprob", "token", "id", "bytes", "model", "usage", "prompt_tokens", "completion_tokens",
    "error",
]  # fmt: skip
JSON = st.recursive(
    st.sampled_from(NUMBERS + STRINGS),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]")
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4).map(json_object)
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    JSON,
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4).map(lambda fields: whole(**fields)),
    JSON.map(lambda row: whole(logprobs=f'{{"content": [{row}]}}')),
    st.sampled_from(["[" * 5000, '{"a":' * 5000, "", "\ufeff{}", "\ud800"]),
)
SAID = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=20)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Retry_After": SAID
        | st.sampled_from([DIGITS, "1e999", "Mon, 1 Jan 99999999999 0:0:0 GMT"]),
        "Set_Cookie": SAID | st.just(f"a=b; expires=Mon, 01-Jan-{DIGITS} 00:00:00 GMT"),
        "Content_Type": SAID | st.just("text/x; charset=utf-99"),
        "Content_Encoding": SAID | st.sampled_from(["gzip", "br, x"]),
        "Location": SAID | st.sampled_from(["http://[::", f"http://a:{DIGITS}"]),
    },
)
STATUSES = st.sampled_from(["200 OK", "101 Up", "204 x", "302 x", "400 x", "429 x", "503 x"])


@settings(deadline=None)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_anything_is_a_reply_or_a_counted_fault(outcome_of, status, headers, body) -> None:
    assert isinstance(outcome_of(wire(status, body, **headers)), Reply | Account)


@settings(deadline=None, max_examples=50)
@given(sent=st.binary(max_size=200), after=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
def test_bytes_that_are_no_http_are_a_counted_fault(outcome_of, sent, after) -> None:
    assert isinstance(outcome_of(after + sent), Account)
