"""Parsing of replies: no value is made up for a missing one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.teacher.replies import MAX_TEXT_BYTES, ReplyError, parse_reply
from quantum_hybrid.text.records import AnswerLogprobs

ENTRY = {
    "id": 5,
    "token": "x",
    "logprob": -2.0,
    "top_logprobs": [{"id": 6, "logprob": -0.5}, {"id": 5, "logprob": -2.0}],
}


def reply(**choice) -> str:
    message = {"message": {"content": "x"}, "finish_reason": "stop"}
    return json.dumps({"choices": [message | choice]})


def logprobs_of(content) -> Any:
    return parse_reply(reply(logprobs={"content": content})).choices[0].logprobs


def test_logprobs_are_sorted_with_their_ids():
    row = {**ENTRY, "top_logprobs": ENTRY["top_logprobs"][::-1]}
    logprobs = parse_reply(reply(logprobs={"content": [row]})).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ("x",)
    assert logprobs.token_ids == (5,)
    assert logprobs.top_ids == ((6, 5),)
    assert logprobs.top_logprobs == ((-0.5, -2.0),)
    assert logprobs.token_logprobs == (-2.0,)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "x",
        [{**ENTRY, "top_logprobs": []}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": None}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": float("nan")}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": 0.5}]}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": -1.0}] * 2}],
        [{**ENTRY, "top_logprobs": [{"id": i, "logprob": -0.5} for i in range(2)]}],
        [{**ENTRY, "top_logprobs": [{"logprob": -0.5}] * 2}],
        [{**ENTRY, "top_logprobs": [{"id": 1, "logprob": -(10**400)}]}],
        [{**ENTRY, "token": None}],
        [ENTRY, "x"],
    ],
    ids=str,
)
def test_incomplete_logprobs_are_none(content):
    assert logprobs_of(content) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 2**31},
        {"top_logprobs": [{"logprob": -0.5}, {"id": 5, "logprob": -2.0}]},
        {"top_logprobs": [{"token": "token_id:x", "logprob": v} for v in (-0.5, -2.0)]},
    ],
    ids=str,
)
def test_ids_are_kept_all_or_none_and_the_rest_without_them(change):
    found = logprobs_of([ENTRY, ENTRY | change])
    assert found == AnswerLogprobs(("x", "x"), (), (), ((-0.5, -2.0),) * 2, (-2.0, -2.0))


def test_a_reply_as_openai_sends_it():
    """No ids; a character in two tokens; a token without a log-probability."""

    def entry(token: str, spelled: list[int] | None, logprob: float) -> dict[str, Any]:
        return {"token": token, "bytes": spelled, "logprob": logprob}

    row = entry(" tea", [32, 116, 101, 97], -0.25) | {
        "top_logprobs": [entry(" tea", [32, 116, 101, 97], -0.25), entry(" \\xe2", [32, 226], -2)]
    }
    one = entry(" \\xe2\\x98", [32, 226, 152], -9999.0) | {
        "top_logprobs": [entry("\\xe2", [226], -1.5), entry("!", [33], -9999.0)]
    }
    two = entry("\\x95", [149], -1e-9) | {"top_logprobs": [entry("\\x95", [149], 1e-9)]}
    found = logprobs_of([row, one, two])
    assert found == AnswerLogprobs(
        (" tea", " \udce2\udc98", "\udc95"),
        (),
        (),
        ((-0.25, -2.0), (-1.5, -9999.0), (0.0,)),
        (-0.25, None, -1e-9),
    )
    assert b"".join(filter(None, found.token_bytes)) == " tea ☕".encode()


def test_a_character_that_is_given_with_its_last_token_only():
    """As llama.cpp writes it: the listed tokens are alternatives of the character's last byte."""
    ends = [{"id": i, "token": "�", "bytes": [i], "logprob": -1.0 - i / 100} for i in (0x85, 0x95)]
    entry = {"id": 0x95, "token": "☕", "bytes": [226, 152, 149], "logprob": -2.49}
    found = logprobs_of([ENTRY, entry | {"top_logprobs": ends}, ENTRY])
    assert found == AnswerLogprobs(
        ("x", "☕", "x"),
        (5, 0x95, 5),
        ((6, 5), (), (6, 5)),
        ((-0.5, -2.0), (), (-0.5, -2.0)),
        (-2.0, None, -2.0),
    )


def test_the_end_of_a_character_by_itself_keeps_its_list():
    ends = [{"id": 0x95, "bytes": [0x95], "logprob": -1.0}]
    entry = {"id": 0x95, "token": "�", "bytes": [149], "logprob": -1.0, "top_logprobs": ends}
    assert logprobs_of([entry]) == AnswerLogprobs(
        ("\udc95",), (0x95,), ((0x95,),), ((-1.0,),), (-1.0,)
    )


@pytest.mark.parametrize(
    "spelled", [None, [], "x", [256], [-1], [True], [1.0], {"0": 120}], ids=str
)
def test_without_bytes_the_token_is_its_text(spelled):
    found = logprobs_of([ENTRY | {"bytes": spelled, "token": "a\udc95\ud800"}])
    assert isinstance(found, AnswerLogprobs)
    assert found.tokens == ("a��",)
    assert found.token_bytes == (None,)
    assert logprobs_of([ENTRY | {"bytes": spelled}]).token_bytes == (b"x",)


@pytest.mark.parametrize(
    "value",
    [None, "-1", True, False, 0.5, -9999, -9999.0, -3.4028234663852886e38, -(10**400)]
    + [float(name) for name in ("nan", "inf", "-inf")],
    ids=str,
)
def test_a_probability_that_is_not_said_is_none(value):
    found = logprobs_of([ENTRY | {"logprob": value}])
    assert isinstance(found, AnswerLogprobs)
    assert found.token_logprobs == (None,)
    assert found.top_logprobs == ((-0.5, -2.0),)


NOT_FINITE = [
    *(float(name) for name in ("nan", "inf", "-inf")),
    "NaN",  # as pydantic may spell it
    "-Infinity",
    -(10**400),
]


@pytest.mark.parametrize("value", NOT_FINITE, ids=str)
@pytest.mark.parametrize("row", [0, 1])
def test_logprobs_that_are_not_finite_are_told_and_not_used(row, value):
    """One that is listed takes all with it, as the list is then no distribution."""
    ours = {**ENTRY, "top_logprobs": [{"id": 6, "logprob": -0.5}, {"id": 5, "logprob": value}]}
    content = [ENTRY, ENTRY]
    content[row] = ours
    (choice,) = parse_reply(reply(logprobs={"content": content})).choices
    assert choice.has_nan_logprobs
    assert (choice.text, choice.logprobs) == ("x", None)
    content[row] = ENTRY | {"logprob": value}
    (choice,) = parse_reply(reply(logprobs={"content": content})).choices
    assert choice.has_nan_logprobs
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs[row] is None
    assert choice.logprobs.token_logprobs[1 - row] == -2.0


@pytest.mark.parametrize("value", [None, "x", [], {}, True, -9999.0, -3.4028234663852886e38])
def test_other_logprobs_are_not_taken_for_such(value):
    content = [ENTRY | {"logprob": value}, ENTRY | {"top_logprobs": value}, value]
    (choice,) = parse_reply(reply(logprobs={"content": content})).choices
    assert not choice.has_nan_logprobs


@pytest.mark.parametrize(
    ("spelled", "text"),
    [([], "token_id:5"), (list(b"token_id:5"), "token_id:5"), ([32, 195, 169], " é")],
    ids=str,
)
def test_ids_may_stand_in_place_of_the_text(spelled, text):
    """As vLLM writes them with --return-tokens-as-token-ids."""
    row = {"token": "token_id:5", "logprob": -2.0, "bytes": spelled}
    top = [{"token": "token_id:6", "logprob": -0.5}, {"token": "token_id:5", "logprob": -2.0}]
    found = logprobs_of([row | {"top_logprobs": top}])
    assert found == AnswerLogprobs((text,), (5,), ((6, 5),), ((-0.5, -2.0),), (-2.0,))
    assert found.token_bytes == (None if text == "token_id:5" else text.encode(),)


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
