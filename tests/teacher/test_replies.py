"""What a reply says, and that nothing is made up where it says nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.teacher.replies import MAX_TEXT_BYTES, ReplyError, parse_reply

ENTRY = {
    "id": 5,
    "token": "x",
    "logprob": -2.0,
    "top_logprobs": [{"id": 6, "logprob": -0.5}, {"id": 5, "logprob": -2.0}],
}


def reply(**choice) -> str:
    message = {"message": {"content": "x"}, "finish_reason": "stop"}
    return json.dumps({"choices": [message | choice]})


def logprobs_of(content) -> object:
    return parse_reply(reply(logprobs={"content": content})).choices[0].logprobs


def test_logprobs_are_sorted_with_their_ids():
    row = {**ENTRY, "top_logprobs": ENTRY["top_logprobs"][::-1]}
    logprobs = parse_reply(reply(logprobs={"content": [row]})).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ("x",)
    assert logprobs.token_ids == (5,)
    assert logprobs.top_ids == ((6, 5),)
    assert logprobs.top_logprobs == ((-0.5, -2.0),)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "x",
        [{**ENTRY, "id": None}],
        [{name: value for name, value in ENTRY.items() if name != "id"}],
        [{**ENTRY, "top_logprobs": []}],
        [{**ENTRY, "top_logprobs": [{"logprob": -1.0}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": None}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": float("nan")}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": 0.5}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": -1.0}] * 2}],
        [{**ENTRY, "top_logprobs": [{"id": i, "logprob": -0.5} for i in range(2)]}],
        [{**ENTRY, "top_logprobs": [{"token": "token_id:x", "logprob": -1.0}]}],
        [{**ENTRY, "id": 2**31}],
        [{**ENTRY, "token": None}],
        [ENTRY, "x"],
    ],
    ids=str,
)
def test_incomplete_logprobs_are_none(content):
    assert logprobs_of(content) is None


def test_ids_may_stand_in_place_of_the_text():
    """As vLLM writes them with --return-tokens-as-token-ids."""
    row = {"token": "token_id:5", "logprob": -2.0, "bytes": []}
    top = [{"token": "token_id:6", "logprob": -0.5}, {"token": "token_id:5", "logprob": -2.0}]
    logprobs = parse_reply(reply(logprobs={"content": [row | {"top_logprobs": top}]}))
    found = logprobs.choices[0].logprobs
    assert found is not None
    assert (found.token_ids, found.top_ids) == ((5,), ((6, 5),))


@pytest.mark.parametrize("content", [None, "", " \n", ["x"], 7])
def test_blank_text_is_no_text(content):
    assert parse_reply(reply(message={"content": content})).choices[0].text is None


def test_withheld_text_is_no_text():
    assert parse_reply(reply(finish_reason="content_filter")).choices[0].text is None


def test_choices_are_put_in_order():
    choices = [{"index": i, "message": {"content": f"text {i}"}} for i in (2, 0, 1)]
    parsed = parse_reply(json.dumps({"choices": choices}))
    assert [choice.text for choice in parsed.choices] == ["text 0", "text 1", "text 2"]


def test_lone_surrogates_become_writable():
    text = parse_reply('{"choices": [{"message": {"content": "a\\ud800b"}}]}').choices[0].text
    assert text == "a�b"


def test_endless_answer_is_no_answer():
    (choice,) = parse_reply(reply(message={"content": "x" * (MAX_TEXT_BYTES + 1)})).choices
    assert (choice.text, choice.lacks) == (None, "oversized")
    (choice,) = parse_reply(reply(message={"content": "x" * MAX_TEXT_BYTES})).choices
    assert choice.lacks is None


def test_an_index_that_comes_twice_is_one_answer():
    choices = [{"index": i, "message": {"content": f"text {i}"}} for i in (0, 2, 2)]
    parsed = parse_reply(json.dumps({"choices": choices}))
    assert [(choice.index, choice.text) for choice in parsed.choices] == [
        (0, "text 0"),
        (2, "text 2"),
    ]
    assert parsed.n_repeated == 1


@pytest.mark.parametrize("count", [None, -1, 1.5, "7", True, 10**40])
def test_a_count_of_tokens_that_cannot_be_is_none(count):
    body = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": count}}
    parsed = parse_reply(json.dumps(body))
    assert (parsed.prompt_tokens, parsed.completion_tokens) == (3, None)


@pytest.mark.parametrize(
    "body", ["", "<html>", '{"choices": [', "[]", "null", "{}", '{"choices": [1]}', "[" * 100_000]
)
def test_other_bodies_are_refused(body):
    with pytest.raises(ReplyError):
        parse_reply(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(message=JSON, logprobs=JSON, index=JSON, usage=JSON, model=JSON)
def test_any_json_in_any_field_is_read_or_refused(message, logprobs, index, usage, model):
    choice = {"message": message, "logprobs": {"content": [logprobs]}, "index": index}
    body = {"choices": [choice, choice], "usage": usage, "model": model}
    parsed = parse_reply(json.dumps(body))
    assert len(parsed.choices) + parsed.n_repeated == 2
