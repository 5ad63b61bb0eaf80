"""Records that the stages exchange: prompts, sampling settings, and the teacher's answers.

Every record is a frozen dataclass of plain values, so that it can be written as JSON, hashed and
compared. `RECORD_VERSION` is stored with records on disk; increase it when a field changes its
meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RECORD_VERSION = 1
UNREADABLE = "\ufffd"
"""Replacement character. A server writes it for part of a character if it gives no bytes."""
SPELLED_ID = "token_id:"
"""Prefix of a token's id, if a server gives the id in place of the token's text."""


@dataclass(frozen=True)
class Prompt:
    """One instruction for the teacher: one line of data/prompts.jsonl."""

    id: str
    category: str
    text: str


@dataclass(frozen=True)
class Sampling:
    """How the teacher samples its answers. Every field is part of an answer's key in the cache.

    The defaults sample from the model's own distribution, without top-k, top-p or min-p truncation.
    """

    max_tokens: int = 64
    """Maximum length of an answer, in the teacher's tokens."""
    temperature: float = 1.0
    seed: int = 0
    """Seed of a prompt's answer 0; answer i is drawn with seed + i."""
    top_logprobs: int = 0
    """Number of most likely tokens to request at each position; 0 for none."""


@dataclass(frozen=True)
class AnswerLogprobs:
    """The teacher's log-probabilities of its answer, one row per answer token."""

    tokens: tuple[str, ...]
    """Text of each sampled token. A byte that is not part of a complete character of the token is a
    lone surrogate, as with `surrogateescape` (PEP 383)."""
    token_ids: tuple[int, ...]
    """Id of each sampled token in the teacher's vocabulary; empty if the server gives no ids."""
    top_ids: tuple[tuple[int, ...], ...]
    """Ids of the k most likely tokens at each position, most likely first; empty without
    `token_ids`."""
    top_logprobs: tuple[tuple[float, ...], ...]
    """Natural log-probabilities of these k tokens, at temperature 1 and before any truncation. They
    are present without ids too. A row is empty if the server gives no list for this token."""
    token_logprobs: tuple[float | None, ...]
    """Natural log-probability of each sampled token; None if the server gives none."""

    @property
    def token_bytes(self) -> tuple[bytes | None, ...]:
        """The UTF-8 bytes of each sampled token; None if unknown."""
        return tuple(map(_bytes_of, self.tokens))

    @classmethod
    def from_lists(
        cls,
        tokens: tuple[str, ...],
        token_ids: tuple[int, ...],
        top_ids: tuple[tuple[int, ...], ...],
        top_logprobs: tuple[tuple[float, ...], ...],
    ) -> AnswerLogprobs:
        """A record without the newer field `token_logprobs`: look its values up in the lists."""
        rows = zip(token_ids, top_ids, top_logprobs, strict=True)
        own = tuple(dict(zip(ids, values, strict=True)).get(i) for i, ids, values in rows)
        return cls(tokens, token_ids, top_ids, top_logprobs, own)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> AnswerLogprobs:
        """See `Answer.from_fields`."""
        lists = (
            tuple(fields["tokens"]),
            tuple(fields["token_ids"]),
            tuple(tuple(ids) for ids in fields["top_ids"]),
            tuple(tuple(values) for values in fields["top_logprobs"]),
        )
        if "token_logprobs" not in fields:
            return cls.from_lists(*lists)
        return cls(*lists, tuple(fields["token_logprobs"]))


def _bytes_of(token: str) -> bytes | None:
    if UNREADABLE in token or token.startswith(SPELLED_ID):
        return None
    try:
        return token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # A surrogate that does not encode a byte.
        return None


@dataclass(frozen=True)
class Answer:
    """One answer of the teacher to one prompt."""

    prompt_id: str
    index: int
    """Index of the answer among those to this prompt, from 0."""
    text: str
    finish_reason: str
    """`stop` if the teacher ended its answer, `length` if it was cut at `max_tokens`."""
    model: str
    """The model's name as the server reported it."""
    logprobs: AnswerLogprobs | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Answer:
        """Inverse of `dataclasses.asdict` followed by JSON, which turns tuples into lists.

        Raises `KeyError`, `TypeError` or `ValueError` for other fields.
        """
        rows = fields["logprobs"]
        logprobs = None if rows is None else AnswerLogprobs.from_fields(rows)
        return cls(**{**fields, "logprobs": logprobs})
