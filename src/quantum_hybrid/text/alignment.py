"""Alignment of two tokenisations of one text: the shortest spans that cover the same bytes.

A span ends at the first byte where a token of each side ends, so no span can be split further (as
in TRL's GOLD trainer). Positions are in bytes, because a byte-level tokenizer may split a
character. An unknown end is None and ends no span. The caller leaves out tokens that are in no
span.

A server's tokens need not spell its text exactly: it may have stripped white space at both ends,
and special tokens such as end-of-text have no text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from quantum_hybrid.text.records import UNREADABLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 8
"""Tokens before a token that are decoded with it, at least."""

Ends = Sequence[int | None]
"""End of each token, in bytes from the start of the text; None if unknown."""


@dataclass(frozen=True)
class Span:
    """Index ranges of the tokens of two tokenisations that cover the same bytes."""

    ours: range
    theirs: range


def common_spans(ours: Ends, theirs: Ends) -> list[Span]:
    """All minimal spans, in the order of the text.

    Tokens that end at or before byte 0 cover nothing and are in no span.
    """
    places: dict[int, int] = {}
    for i, end in enumerate(theirs):
        if end is not None:
            places.setdefault(end, i)
    spans, start, their_start = [], _n_before(ours), _n_before(theirs)
    for i, end in enumerate(ours):
        if end is not None and end > 0 and end in places:
            place = places.pop(end)
            spans.append(Span(range(start, i + 1), range(their_start, place + 1)))
            start, their_start = i + 1, place + 1
    return spans


def _n_before(ends: Ends) -> int:
    return len(list(takewhile(lambda end: end is not None and end <= 0, ends)))


def decoded_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> Ends:
    """End byte of each token of a tokenised text, from decoding prefixes of `ids`.

    The character offsets of some tokenizers are not used: they give each token of a split character
    the whole character, and some leave out white space. The end of a token is unknown if it lies
    within a character, or if decoding does not give the text back up to there, because the
    tokenizer normalised the text. Takes time proportional to the number of tokens.
    """

    def decode(first: int, end: int) -> str:
        part = list(ids[first:end])
        return str(tokenizer.decode(part, clean_up_tokenization_spaces=False))

    bytes_before = [0, *accumulate(len(char.encode()) for char in text)]
    lengths = _decoded_lengths(decode, len(ids), text)
    ends = [None if length is None else bytes_before[length] for length in lengths]
    # In a text with replacement characters, a partial character decodes to a matching one and gets
    # a false end. Ends must increase, so an end that a later one does not exceed is unknown.
    least: int | None = None
    for i, end in reversed(list(enumerate(ends))):
        if end is not None and (least is None or end < least):
            least = end
        else:
            ends[i] = None
    return ends


def _decoded_lengths(
    decode: Callable[[int, int], str], n_tokens: int, text: str
) -> list[int | None]:
    """Characters that the first 1, 2, ... tokens decode to; None where the text begins otherwise.

    Decodes a window of the last tokens in place of all: with `first` the window's first token,

        decode(0, n) = the first n_before characters of decode(0, anchor) + decode(first, n)[skip:]

    `skip` leaves out what a decoder writes of a first token only. The `CONTEXT` tokens or more from
    `first` to `anchor` are there so that the others are decoded as in their place. Where a decoder
    looks further back than that, which some prefixes are decoded in full to find out, all are.
    """
    first = anchor = skip = n_before = 0
    begins_alike, lengths = True, []
    for n in range(1, n_tokens + 1):
        window = decode(first, n)[skip:]
        fits = begins_alike and text.startswith(window, n_before)
        lengths.append(n_before + len(window) if fits else None)
        is_tested = first > 0 and (n.bit_count() == 1 or n == n_tokens)
        if is_tested and lengths[-1] != _length(decode(0, n), text):
            return [_length(decode(0, count), text) for count in range(1, n_tokens + 1)]
        # Not behind a part of a character, which the next token may change.
        if n - anchor >= CONTEXT and not window.endswith(UNREADABLE):
            narrower = decode(anchor, n)
            common = _n_common_at_end(window, narrower)
            if common > 0:
                begins_alike = begins_alike and text.startswith(window[:-common], n_before)
                n_before += len(window) - common
                first, anchor, skip = anchor, n, len(narrower) - common
    return lengths


def _n_common_at_end(one: str, other: str) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _length(begun: str, text: str) -> int | None:
    return len(begun) if text.startswith(begun) else None


def spelled_ends(tokens: Sequence[bytes | None], text: str) -> Ends:
    """End byte of each token from the tokens' bytes, as far as they spell the text.

    White space at both ends may differ: of a token that begins before the text or ends after it,
    the part within the text counts. From the first token on whose bytes are unknown or do not match
    the text, ends are unknown.
    """
    known = b"".join(takewhile(lambda token: token is not None, tokens))  # type: ignore[arg-type]
    exact = text.encode()
    expected = _indentation(known) + exact.lstrip()
    shift, position, ends = len(expected) - len(exact), 0, []
    for token in tokens:
        if token is None or position >= len(expected):
            break
        covered = expected[position : position + len(token)]
        if not token.startswith(covered) or token[len(covered) :].strip():
            break
        position += len(token)
        ends.append(min(position, len(expected)) - shift)
    return ends + [None] * (len(tokens) - len(ends))


def _indentation(text: bytes) -> bytes:
    return text[: len(text) - len(text.lstrip())]
