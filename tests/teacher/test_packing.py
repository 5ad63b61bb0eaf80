"""Log-probabilities as bytes: small, and what comes back is what went in, as far as is promised."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.records import AnswerLogprobs
from quantum_hybrid.teacher.packing import EXACT, pack, unpack

IDS = st.integers(0, 2**63 - 1)
VALUES = st.floats(-1e5, 0)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ROW = st.tuples(TEXT, IDS, st.lists(st.tuples(IDS, VALUES), max_size=EXACT + 5))


def record(rows) -> AnswerLogprobs:
    return AnswerLogprobs(
        tuple(text for text, _, _ in rows),
        tuple(token for _, token, _ in rows),
        tuple(tuple(i for i, _ in top) for _, _, top in rows),
        tuple(tuple(value for _, value in top) for _, _, top in rows),
    )


def real_looking(vocabulary: int, k: int = 64, n_tokens: int = 64) -> AnswerLogprobs:
    """The largest ids that there are, and probabilities that fall like a language model's."""
    draw = random.Random(0)
    top = [
        [(vocabulary - 1 - i, -0.8 - 1.7 * math.log1p(i) - draw.random()) for i in range(k)]
        for _ in range(n_tokens)
    ]
    return record([(" unquestionably", vocabulary - 1, row) for row in top])


@pytest.mark.parametrize("vocabulary", [49_152, 262_144, 2**21])
def test_a_token_takes_less_than_400_bytes_at_64(vocabulary):
    logprobs = real_looking(vocabulary)
    assert len(pack(logprobs)) / len(logprobs.tokens) < 400
    assert len(json.dumps(asdict(logprobs))) / len(logprobs.tokens) > 1500


@given(st.lists(ROW, max_size=4))
def test_everything_comes_back_but_for_the_rounding_that_is_stated(rows):
    given = record(rows)
    got = unpack(pack(given))
    assert (got.tokens, got.token_ids, got.top_ids) == (
        given.tokens,
        given.token_ids,
        given.top_ids,
    )
    for before, after in zip(given.top_logprobs, got.top_logprobs, strict=True):
        assert len(before) == len(after)
        for rank, (one, other) in enumerate(zip(before, after, strict=True)):
            error = 2**-24 if rank < EXACT else 2**-11
            # float16 has an end at both sides: 2^-25 is half the distance of its smallest numbers.
            assert abs(max(one, -65504.0) - other) <= error * abs(one) + 2**-25
    assert unpack(pack(got)) == got


def test_what_is_left_for_all_other_tokens_is_hardly_touched():
    before = real_looking(49_152)
    after = unpack(pack(before))
    for one, other in zip(before.top_logprobs, after.top_logprobs, strict=True):
        mass = [sum(map(math.exp, values)) for values in (one, other)]
        assert 0.3 < mass[0] < 1
        assert mass[1] == pytest.approx(mass[0], abs=2e-4)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_what_is_no_token_is_refused(number):
    with pytest.raises(ValueError, match="allowed are 0 to"):
        pack(record([("a", number, [])]))


def test_bytes_that_are_no_block_are_refused():
    block = pack(real_looking(49_152, k=20, n_tokens=2))
    for damaged in (block[:-1], block + b"\0", b"", b"\x01" + b"\xff" * 10 + block):
        with pytest.raises(ValueError, match=r"too early|after the last|too long"):
            unpack(damaged)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(block):
    try:
        found = unpack(block)
    except ValueError:
        return
    assert len(found.tokens) == len(found.top_ids)


def test_half_a_character_is_kept_as_it_came() -> None:
    """An answer that is paid for must not be lost for how a server spells one of its tokens."""
    logprobs = AnswerLogprobs(("\ud83d",), (7,), ((7,),), ((-0.5,),))
    assert unpack(pack(logprobs)) == logprobs
