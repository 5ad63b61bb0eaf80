"""The teacher's log-probabilities as bytes, and back: how the cache keeps them.

    a zero byte, then 1 if there are ids and 0 if not, then the number of answer tokens
    for each answer token: its log-probability as float32, its id, length of its text, text in
    UTF-8, k, then k ids, most likely first, then their log-probabilities: the first `EXACT` as
    float32, the others as float16

A block of schema 3, which kept no log-probability of the token itself, begins with the number of
tokens instead, which is never zero. What is not known is not a number (NaN).

Whole numbers are LEB128 varints, 3 bytes at most for a vocabulary of up to 2 million; floats are
little-endian. At k = 64 a token takes 352 bytes at most, and 9 more with what is its own, besides
its text; as JSON it takes about 1,700.

A log-probability l comes back within 2^-24 |l| for the token itself and the `EXACT` most likely
ones and within 2^-11 |l| for the others. Those have less than 1 / EXACT each, and it is the likely
ones that settle what is left for all other tokens together. One below -65504 comes back as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quantum_hybrid.text.records import AnswerLogprobs

EXACT = 16
"""So many of the most likely tokens of a position keep all digits of a float32."""
_LOWEST = float(np.finfo(np.float16).min)
_MARK = b"\0"


def pack(logprobs: AnswerLogprobs) -> bytes:
    """The bytes that `unpack` reads; ids must be below 2^63."""
    count, has_ids = len(logprobs.tokens), bool(logprobs.token_ids)
    block = bytearray(_MARK + bytes([has_ids]) + _varint(count))
    rows = zip(
        logprobs.tokens,
        logprobs.token_logprobs,
        logprobs.token_ids if has_ids else [0] * count,
        logprobs.top_ids if has_ids else [()] * count,
        logprobs.top_logprobs,
        strict=True,
    )
    for token, own, token_id, ids, values in rows:
        text = token.encode("utf-8", "surrogatepass")  # for half a character
        block += _floats([math.nan if own is None else own])
        block += _varint(token_id) if has_ids else b""
        block += _varint(len(text)) + text + _varint(len(values))
        for listed in ids:
            block += _varint(listed)
        block += _floats(values)
    return bytes(block)


def unpack(block: bytes) -> AnswerLogprobs:
    """What was packed, its log-probabilities rounded; `ValueError` for other bytes."""
    reader = _Reader(block)
    found = _marked(reader) if block.startswith(_MARK) else _unmarked(reader)
    if not reader.is_at_end:
        raise ValueError("there are bytes after the last token")
    return found


def _marked(reader: _Reader) -> AnswerLogprobs:
    reader.take(len(_MARK))
    has_ids = reader.varint()
    if has_ids > 1:
        raise ValueError("it is of a form that is not known")
    tokens, token_ids, top_ids, top_logprobs, own = [], [], [], [], []
    for _ in range(reader.varint()):
        (value,) = reader.floats(1)
        own.append(None if math.isnan(value) else value)
        token_ids += reader.varints(has_ids)
        tokens.append(reader.text())
        k = reader.varint()
        if has_ids:
            top_ids.append(reader.varints(k))
        top_logprobs.append(reader.floats(k))
    return AnswerLogprobs(
        tuple(tokens), tuple(token_ids), tuple(top_ids), tuple(top_logprobs), tuple(own)
    )


def _unmarked(reader: _Reader) -> AnswerLogprobs:
    """A block of schema 3."""
    tokens, token_ids, top_ids, top_logprobs = [], [], [], []
    for _ in range(reader.varint()):
        token_ids.append(reader.varint())
        tokens.append(reader.text())
        k = reader.varint()
        top_ids.append(reader.varints(k))
        top_logprobs.append(reader.floats(k))
    return AnswerLogprobs.from_lists(
        tuple(tokens), tuple(token_ids), tuple(top_ids), tuple(top_logprobs)
    )


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that another byte follows."""
    if not 0 <= number < 2**63:
        raise ValueError(f"{number}: allowed are 0 to 2^63 - 1")
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _floats(values: Sequence[float]) -> bytes:
    bounded = np.maximum(np.array(values, dtype=np.float64), _LOWEST)
    return bounded[:EXACT].astype("<f4").tobytes() + bounded[EXACT:].astype("<f2").tobytes()


class _Reader:
    """Reads a block from its beginning to its end."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._block)

    def take(self, count: int) -> bytes:
        part = self._block[self._at : self._at + count]
        if len(part) < count:
            raise ValueError("it ends too early")
        self._at += count
        return part

    def varint(self) -> int:
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def varints(self, count: int) -> tuple[int, ...]:
        return tuple(self.varint() for _ in range(count))

    def text(self) -> str:
        return self.take(self.varint()).decode("utf-8", "surrogatepass")

    def floats(self, count: int) -> tuple[float, ...]:
        exact = min(count, EXACT)
        first = np.frombuffer(self.take(4 * exact), "<f4").tolist()
        return (*first, *np.frombuffer(self.take(2 * (count - exact)), "<f2").tolist())
