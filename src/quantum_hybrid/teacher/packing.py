"""The teacher's log-probabilities as bytes, and back: how the cache keeps them.

    for each answer token: id, length of its text, text in UTF-8, k, then k ids, most likely first,
    then their log-probabilities: the first `EXACT` as float32, the others as float16

Whole numbers are LEB128 varints, 3 bytes at most for a vocabulary of up to 2 million; floats are
little-endian. At k = 64 a token takes 352 bytes at most, and 5 more with its own id and lengths,
besides its text; as JSON it takes about 1,700.

A log-probability l comes back within 2^-24 |l| for the `EXACT` most likely tokens and within
2^-11 |l| for the others. Those have less than 1 / EXACT each, and it is the likely ones that settle
what is left for all other tokens together. One below -65504 comes back as that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantum_hybrid.records import AnswerLogprobs

EXACT = 16
"""So many of the most likely tokens of a position keep all digits of a float32."""
_LOWEST = float(np.finfo(np.float16).min)


def pack(logprobs: AnswerLogprobs) -> bytes:
    """The bytes that `unpack` reads; ids must be below 2^63."""
    block = bytearray(_varint(len(logprobs.tokens)))
    rows = zip(
        logprobs.tokens,
        logprobs.token_ids,
        logprobs.top_ids,
        logprobs.top_logprobs,
        strict=True,
    )
    for token, token_id, ids, values in rows:
        text = token.encode("utf-8", "surrogatepass")  # JSON can spell half a character
        block += _varint(token_id) + _varint(len(text)) + text + _varint(len(ids))
        for listed in ids:
            block += _varint(listed)
        block += _floats(values)
    return bytes(block)


def unpack(block: bytes) -> AnswerLogprobs:
    """What was packed, its log-probabilities rounded; `ValueError` for other bytes."""
    reader = _Reader(block)
    tokens, token_ids, top_ids, top_logprobs = [], [], [], []
    for _ in range(reader.varint()):
        token_ids.append(reader.varint())
        tokens.append(reader.take(reader.varint()).decode("utf-8", "surrogatepass"))
        k = reader.varint()
        top_ids.append(tuple(reader.varint() for _ in range(k)))
        top_logprobs.append(reader.floats(k))
    if not reader.is_at_end:
        raise ValueError("there are bytes after the last token")
    return AnswerLogprobs(tuple(tokens), tuple(token_ids), tuple(top_ids), tuple(top_logprobs))


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

    def floats(self, count: int) -> tuple[float, ...]:
        exact = min(count, EXACT)
        first = np.frombuffer(self.take(4 * exact), "<f4").tolist()
        return (*first, *np.frombuffer(self.take(2 * (count - exact)), "<f2").tolist())
