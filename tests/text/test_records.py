"""Records, their JSON, and the bytes of a teacher's tokens."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.text.records import Answer, AnswerLogprobs

LOGPROBS = AnswerLogprobs(
    (" a", "\udce2\udc98", "\udc95"),
    (4, 1, 2),
    ((4,), (7, 1), (9,)),
    ((-0.1,), (-0.2, -3.3), (-1.7,)),
    (-0.1, -3.3, None),
)
ANSWER = Answer("p", 3, "text", "stop", "m", LOGPROBS)


def listing(*tokens: str) -> AnswerLogprobs:
    return AnswerLogprobs(tokens, (), (), ((-1.0,),) * len(tokens), (None,) * len(tokens))


@given(st.lists(st.binary(max_size=6)))
def test_a_token_keeps_its_bytes_whole_characters_or_not(parts) -> None:
    tokens = [part.decode("utf-8", "surrogateescape") for part in parts]
    found = listing(*tokens).token_bytes
    assert found == tuple(None if "�".encode() in part else part for part in parts)


@given(st.text().filter(lambda text: "�" not in text), st.data())
def test_put_together_they_are_the_text_wherever_it_is_cut(text, data) -> None:
    spelled = text.encode("utf-8")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(spelled)))))
    parts = [spelled[i:j] for i, j in zip([0, *cuts], [*cuts, len(spelled)], strict=True)]
    tokens = [part.decode("utf-8", "surrogateescape") for part in parts]
    assert b"".join(part or b"" for part in listing(*tokens).token_bytes) == spelled


@pytest.mark.parametrize("token", ["�", "a�b", "token_id:7", chr(0xD83D)], ids=ascii)
def test_what_does_not_tell_its_bytes_has_none(token) -> None:
    assert listing("a", token, "").token_bytes == (b"a", None, b"")


@pytest.mark.parametrize("logprobs", [None, LOGPROBS, listing("a", "\udcff"), listing()])
def test_json_tells_all(logprobs) -> None:
    answer = Answer("p", 3, "text", "stop", "m", logprobs)
    line = json.dumps(asdict(answer))
    assert line.isascii()
    assert Answer.from_fields(json.loads(line)) == answer


def test_json_of_before_a_tokens_own_probability_was_kept() -> None:
    fields = asdict(ANSWER)
    del fields["logprobs"]["token_logprobs"]
    assert Answer.from_fields(json.loads(json.dumps(fields))) == ANSWER
