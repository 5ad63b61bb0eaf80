"""How a run learns from its teacher: the one interface of all ways to do so.

A `Method` says what to ask a teacher for, makes examples of its answers, finds out whether this
teacher can be learned from in that way, and makes a batch of examples a `Term`. A `Term` says which
tokens' log-probabilities it needs of the student, what some of the batch's rows add to the
objective, and its figures. `choice` tells which method a run has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantum_hybrid.processes.ranks import Ranks
from quantum_hybrid.text.encoder import Encoder, Example
from quantum_hybrid.text.records import Answer, Prompt


@dataclass(frozen=True)
class Asked:
    """The tokens that a term depends on, in the form that the pass over the vocabulary takes."""

    listed: Int[Tensor, "rows listed"]
    """Of each row, its target before all others."""
    n_likeliest: int = 0
    """How many of the student's most likely tokens come behind the listed ones."""
    ends: Sequence[int] | None = None
    """Numbers of rows after which a chunk may end, where the term couples rows; None: any."""


@runtime_checkable
class Term(Protocol):
    """What a batch of examples adds to the objective; rows are those of `student.answer_rows`.

    `log_q` holds the hybrid's log-probabilities of the tokens that the term has asked for.
    """

    def asked(self, targets: Int[Tensor, " rows"], n_words: int) -> Asked:
        """The tokens to take the log-probabilities of, from a vocabulary of `n_words`."""
        ...

    def of_rows(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """What some rows add to the objective's sum, in nats; `log_q` is of these rows alone."""
        ...

    def figures(
        self, log_q: Float[Tensor, "rows asked"], n_tokens: int, ranks: Ranks
    ) -> dict[str, float]:
        """The figures of a step over all processes, whose batches have `n_tokens` rows together."""
        ...


@runtime_checkable
class Method(Protocol):
    """A way of learning from a teacher."""

    @property
    def top_logprobs(self) -> int:
        """How many of its most likely tokens the teacher is asked for at each answer token."""
        ...

    @property
    def introduction(self) -> str | None:
        """What is learned from, in a line for people; None if from nothing but text."""
        ...

    def examples(
        self, encoder: Encoder, prompt: Prompt, answers: Sequence[Answer]
    ) -> list[Example]:
        """The examples that a group's answers become."""
        ...

    def check(
        self,
        held_out: Sequence[tuple[Prompt, Answer]],
        encoder: Encoder,
        teacher_tokenizer: Callable[[], PreTrainedTokenizerBase] | None,
    ) -> str | None:
        """What makes this teacher one that can be learned from, in a line for people.

        Judged by its held-out answers and, where it can be had, by its tokenizer. Raises
        `UsageError` for a teacher that cannot be learned from in this way.
        """
        ...

    def term(self, examples: Sequence[Example]) -> Term:
        """What these examples add to the objective."""
        ...


@dataclass(frozen=True)
class LogprobMethod:
    """What all methods that learn from log-probabilities have in common."""

    top_logprobs: int
    weight: float
    """Of the term in the objective."""
    temperature: float

    name: ClassVar[str]
    """As the configuration has it."""

    @property
    def introduction(self) -> str:
        """See `Method`."""
        return (
            f"text, and the teacher's top {self.top_logprobs} log-probabilities: {self.name}, "
            f"weight {self.weight:g}, temperature {self.temperature:g}"
        )


def share_and_means(
    share: str,
    n_covered: int,
    values: Mapping[str, Float[Tensor, " n"]],
    n_tokens: int,
    ranks: Ranks,
) -> dict[str, float]:
    """Covered rows of all processes as a share of all `n_tokens`, and each quantity's mean over
    all its values, if there are any; a process has as many of one quantity as of another."""
    n_all = int(ranks.total(torch.tensor(n_covered)))
    found = {share: n_all / n_tokens}
    if n_all:
        (count,) = {len(value) for value in values.values()}
        own = {name: value.sum().item() / max(count, 1) for name, value in values.items()}
        found |= ranks.means(own, count)
    return found
