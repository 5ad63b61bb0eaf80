"""Alignment of two tokenisations of one text: the shortest spans that cover the same bytes.

A span ends at the first byte where a token of each side ends, so no span can be split further (as
in TRL's GOLD trainer). Positions are in bytes, because a byte-level tokenizer may split a
character. An unknown end is None and ends no span. The caller leaves out tokens that are in no
span.

A server's tokens need not spell its text exactly: it may have stripped white space at both ends,
and special tokens such as end-of-text have no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    """End byte of each token of a tokenised text, from decoding growing prefixes of `ids`.

    The character offsets of some tokenizers are not used: they give each token of a split character
    the whole character, and some leave out white space. The end of a token is unknown if it lies
    within a character, or if decoding does not give the text back up to there, because the
    tokenizer normalised the text.
    """
    ends: list[int | None] = []
    for count in range(1, len(ids) + 1):
        begun = tokenizer.decode(list(ids[:count]), clean_up_tokenization_spaces=False)
        ends.append(len(str(begun).encode()) if text.startswith(str(begun)) else None)
    # In a text with replacement characters, a partial character decodes to a matching one and gets
    # a false end. Ends must increase, so an end that a later one does not exceed is unknown.
    least: int | None = None
    for i, end in reversed(list(enumerate(ends))):
        if end is not None and (least is None or end < least):
            least = end
        else:
            ends[i] = None
    return ends


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
