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
    """Text of each sampled token, as the teacher's tokenizer spells it."""
    token_ids: tuple[int, ...]
    """Identity of each sampled token in the teacher's vocabulary."""
    top_ids: tuple[tuple[int, ...], ...]
    """The k most likely tokens at each position, most likely first."""
    top_logprobs: tuple[tuple[float, ...], ...]
    """Their natural-log probabilities at temperature 1, before any truncation."""


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

        Raises `KeyError` or `TypeError` for anything else.
        """
        rows = fields["logprobs"]
        logprobs = None
        if rows is not None:
            logprobs = AnswerLogprobs(
                tokens=tuple(rows["tokens"]),
                token_ids=tuple(rows["token_ids"]),
                top_ids=tuple(tuple(ids) for ids in rows["top_ids"]),
                top_logprobs=tuple(tuple(values) for values in rows["top_logprobs"]),
            )
        return cls(**{**fields, "logprobs": logprobs})
