"""The cache's binary format of the teacher's log-probabilities.

    header      a zero byte; 1 if there are token ids, else 0; the number of answer tokens
    each token  log-probability as float32, id, length of the text, text in UTF-8, k, k ids from
                the most likely token down, their log-probabilities: the first `EXACT` as float32,
                the others as float16

Without ids, all ids are left out. An unknown log-probability is NaN. A block of schema 3, which has
no log-probability of the answer token itself, begins with the number of tokens, which is never
zero.

Integers are LEB128 varints, at most 3 bytes for a vocabulary of up to 2 million; floats are
little-endian. At k = 64 a token takes at most 352 bytes for its list and 9 bytes for itself, plus
its text; as JSON it takes about 1,700 bytes.

The relative rounding error of a log-probability is at most 2^-24 for the token itself and the
`EXACT` most likely ones, and 2^-11 for the others. The others have a probability below 1 / EXACT
each, and the likely tokens determine the remaining mass. Values below -65504 become -65504.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quantum_hybrid.text.records import AnswerLogprobs

EXACT = 16
"""Number of most likely tokens at a position whose log-probabilities are stored as float32."""
_LOWEST = float(np.finfo(np.float16).min)
_MARK = b"\0"


def pack(logprobs: AnswerLogprobs) -> bytes:
    """Encode log-probabilities. Raises `ValueError` for an id outside [0, 2^63)."""
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
        text = token.encode("utf-8", "surrogatepass")  # A token may be part of a character.
        block += _floats([math.nan if own is None else own])
        block += _varint(token_id) if has_ids else b""
        block += _varint(len(text)) + text + _varint(len(values))
        for listed in ids:
            block += _varint(listed)
        block += _floats(values)
    return bytes(block)


def unpack(block: bytes) -> AnswerLogprobs:
    """Decode what `pack` wrote, with rounded log-probabilities. Raises `ValueError`."""
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
    """Decode a block of schema 3."""
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
    """LEB128: seven bits per byte, lowest first; the top bit marks that another byte follows."""
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
    """Reads a block sequentially. Raises `ValueError` for bytes that `pack` does not write."""

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
