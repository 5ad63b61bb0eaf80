"""Where two tokenisations of one text agree: spans of tokens of both that cover the same bytes.

A span ends where a token of both sides ends at the same byte of the text, and at the first such
byte, so that none can be cut in two (as in TRL's GOLD trainer). Positions are in bytes because a
byte-level tokenizer may cut within a character. An end that is not known, None, ends no span, and
what no span covers is for the caller to leave out: nothing is guessed.

What a server's tokens spell need not be its text to the last byte. It may have dropped white space
at the text's beginning and end; and a mark such as end-of-text has a token and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ends = Sequence[int | None]
"""Where each token ends, in bytes from the text's beginning."""


@dataclass(frozen=True)
class Span:
    """Tokens of two tokenisations, by their positions in these, that cover the same bytes."""

    ours: range
    theirs: range


def common_spans(ours: Ends, theirs: Ends) -> list[Span]:
    """All spans, in the order of the text, each as short as can be.

    Tokens that end where the text begins cover none of it, and are in no span.
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
    """Of the tokens that a tokenizer makes of a text: by what the first so many of them decode to.

    That is asked of the decoder, and not read off the character offsets that some tokenizers give:
    those give every token of one character the whole of it, and some leave out white space. A token
    that ends within a character has no known end; neither has one from which on the text does not
    come back, as it was changed before it was cut up.
    """
    ends: list[int | None] = []
    for count in range(1, len(ids) + 1):
        begun = tokenizer.decode(list(ids[:count]), clean_up_tokenization_spaces=False)
        ends.append(len(str(begun).encode()) if text.startswith(str(begun)) else None)
    # Where the text itself has replacement characters, parts of one decode to what it says too.
    least: int | None = None
    for i, end in reversed(list(enumerate(ends))):
        if end is not None and (least is None or end < least):
            least = end
        else:
            ends[i] = None
    return ends


def spelled_ends(tokens: Sequence[bytes | None], text: str) -> Ends:
    """Of tokens whose bytes are given, as far as these spell the text.

    White space at either end may differ: a token that only begins before the text, or goes on
    behind it, counts as covering what it covers of it. Behind a token of unknown bytes, or one that
    spells anything else, no end is known.
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
