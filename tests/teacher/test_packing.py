"""The binary format of log-probabilities: small, and exact up to the stated rounding."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.teacher.packing import EXACT, pack, unpack
from quantum_hybrid.text.records import AnswerLogprobs

IDS = st.integers(0, 2**63 - 1)
VALUES = st.floats(-1e5, 0)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
BYTES = st.binary(max_size=5).map(lambda found: found.decode("utf-8", "surrogateescape"))
OWN = st.none() | st.floats(-9998, 0)
TOP = st.lists(st.tuples(IDS, VALUES), max_size=EXACT + 5)
ROW = st.tuples(TEXT | BYTES, OWN, IDS, TOP)
SCHEMA_3 = bytes.fromhex(
    "03ac02022061"  # 3 tokens, the first " a" with number 300, and 2 listed
    "02ac0205000000be000040c0"
    "0203efbfbd11000102030405060708090a0b0c0d0e0f10"
    "000020c0000030c0000040c0000050c0000060c0000070c0000080c0000088c0"
    "000090c0000098c00000a0c00000a8c00000b0c00000b8c00000c0c00000c8c080c6"
    "0701620109000080bf"
)
"""As the program wrote it then."""


def record(rows, has_ids: bool = True) -> AnswerLogprobs:
    return AnswerLogprobs(
        tuple(text for text, _, _, _ in rows),
        tuple(token for _, _, token, _ in rows if has_ids),
        tuple(tuple(i for i, _ in top) for _, _, _, top in rows if has_ids),
        tuple(tuple(value for _, value in top) for _, _, _, top in rows),
        tuple(own for _, own, _, _ in rows),
    )


def real_looking(vocabulary: int, k: int = 64, n_tokens: int = 64) -> AnswerLogprobs:
    """The largest possible ids, and probabilities that fall like a language model's."""
    draw = random.Random(0)
    top = [
        [(vocabulary - 1 - i, -0.8 - 1.7 * math.log1p(i) - draw.random()) for i in range(k)]
        for _ in range(n_tokens)
    ]
    return record([(" unquestionably", -0.8, vocabulary - 1, row) for row in top])


@pytest.mark.parametrize("vocabulary", [49_152, 262_144, 2**21])
def test_a_token_takes_less_than_400_bytes_at_64(vocabulary):
    logprobs = real_looking(vocabulary)
    assert len(pack(logprobs)) / len(logprobs.tokens) < 400
    assert len(json.dumps(asdict(logprobs))) / len(logprobs.tokens) > 1500


@given(st.lists(ROW, max_size=4), st.booleans())
def test_everything_comes_back_but_for_the_rounding_that_is_stated(rows, has_ids):
    given = record(rows, has_ids)
    got = unpack(pack(given))
    assert (got.tokens, got.token_ids, got.top_ids) == (
        given.tokens,
        given.token_ids,
        given.top_ids,
    )
    assert got.token_bytes == given.token_bytes
    for own, kept in zip(given.token_logprobs, got.token_logprobs, strict=True):
        assert kept == (None if own is None else pytest.approx(own, rel=2**-24, abs=2**-149))
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
        pack(record([("a", -1.0, number, [])]))


def test_bytes_that_are_no_block_are_refused():
    block = pack(real_looking(49_152, k=20, n_tokens=2))
    for damaged in (
        block[:-1],
        block + b"\0",
        b"",
        b"\0",
        b"\x01" + b"\xff" * 10 + block,
        b"\0\2" + block[2:],
    ):
        with pytest.raises(ValueError, match=r"too early|after the last|too long|not known"):
            unpack(damaged)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\0\0\1" + rest))
def test_any_bytes_are_read_or_refused(block):
    try:
        found = unpack(block)
    except ValueError:
        return
    assert len(found.tokens) == len(found.top_logprobs) == len(found.token_logprobs)
    assert len(found.token_ids) == len(found.top_ids)


def test_without_ids_there_is_no_room_for_them():
    ids, none = real_looking(49_152), replace(real_looking(49_152), token_ids=(), top_ids=())
    assert len(pack(none)) == len(pack(ids)) - 65 * 3 * len(ids.tokens)


def test_what_schema_3_packed_is_read():
    """A sampled token's log-probability is found in its list, or unknown."""
    likely = tuple(-2.5 - rank / 4 for rank in range(17))
    assert unpack(SCHEMA_3) == AnswerLogprobs(
        (" a", "�", "b"),
        (300, 2, 7),
        ((300, 5), tuple(range(17)), (9,)),
        ((-0.125, -3.0), likely, (-1.0,)),
        (-0.125, -3.0, None),
    )


def test_half_a_character_is_kept_as_it_came() -> None:
    """A paid answer must not be lost because of one token's spelling."""
    logprobs = AnswerLogprobs(("\ud83d",), (7,), ((7,),), ((-0.5,),), (-0.5,))
    assert unpack(pack(logprobs)) == logprobs
