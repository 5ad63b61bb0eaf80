"""What the stages hand each other: prompts, sampling settings, and the teacher's answers.

Every record is a frozen dataclass of plain values, so that it can be written as JSON, hashed and
compared. `RECORD_VERSION` is stored with whatever is kept on disk; raise it when a field changes
its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RECORD_VERSION = 1
UNREADABLE = "\ufffd"
"""What a server writes for a part of a character whose bytes it does not tell."""
SPELLED_ID = "token_id:"
"""What stands before a token's number where a server gives it in place of the token's text."""


@dataclass(frozen=True)
class Prompt:
    """One instruction for the teacher, as it stands in the prompts file."""

    id: str
    category: str
    text: str


@dataclass(frozen=True)
class Sampling:
    """How the teacher draws its answers; all of it is part of an answer's identity.

    The defaults draw from the model's own distribution: no top-k, top-p or min-p truncation.
    """

    max_tokens: int = 64
    """Longest answer, in the teacher's tokens."""
    temperature: float = 1.0
    seed: int = 0
    """Seed of a prompt's answer 0; its answer i is drawn with seed + i."""
    top_logprobs: int = 0
    """How many of the teacher's most likely tokens to ask for at each position; 0 for none."""


@dataclass(frozen=True)
class AnswerLogprobs:
    """The teacher's own view of its answer, one row per answer token."""

    tokens: tuple[str, ...]
    """Text of each sampled token, as the teacher's tokenizer spells it. A byte that belongs to no
    whole character of the token is a lone surrogate, as of `surrogateescape` (PEP 383)."""
    token_ids: tuple[int, ...]
    """Identity of each sampled token in the teacher's vocabulary; none if the server gives none."""
    top_ids: tuple[tuple[int, ...], ...]
    """The k most likely tokens at each position, most likely first; none without `token_ids`."""
    top_logprobs: tuple[tuple[float, ...], ...]
    """Their natural-log probabilities at temperature 1, before any truncation. Known without ids
    too; a row is empty where the server says nothing of this very token."""
    token_logprobs: tuple[float | None, ...]
    """That of each sampled token itself; None where the server does not say."""

    @property
    def token_bytes(self) -> tuple[bytes | None, ...]:
        """The bytes of each sampled token, in UTF-8 if put together; None where not known."""
        return tuple(map(_bytes_of, self.tokens))

    @classmethod
    def from_lists(
        cls,
        tokens: tuple[str, ...],
        token_ids: tuple[int, ...],
        top_ids: tuple[tuple[int, ...], ...],
        top_logprobs: tuple[tuple[float, ...], ...],
    ) -> AnswerLogprobs:
        """A record of before `token_logprobs` was kept: known of tokens that are in their list."""
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
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return None


@dataclass(frozen=True)
class Answer:
    """One answer of the teacher to one prompt."""

    prompt_id: str
    index: int
    """Which of the answers to this prompt it is, counted from 0."""
    text: str
    finish_reason: str
    """`stop` when the teacher ended its answer, `length` when it was cut at `max_tokens`."""
    model: str
    """The model name the server reported."""
    logprobs: AnswerLogprobs | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Answer:
        """The record that `dataclasses.asdict` and JSON made these fields of. JSON knows no tuples.

        Raises `KeyError`, `TypeError` or `ValueError` for anything else.
        """
        rows = fields["logprobs"]
        logprobs = None if rows is None else AnswerLogprobs.from_fields(rows)
        return cls(**{**fields, "logprobs": logprobs})
