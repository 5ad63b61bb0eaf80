"""The interface of all distillation methods.

A `Method` states how many log-probabilities to request from the teacher, turns answers into
examples, checks whether it can learn from this teacher, and turns a batch of examples into a
`Term`. A `Term` states which of the student's log-probabilities it needs, and computes its part of
the objective and its figures. `choice` selects a run's method.
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
    """The tokens whose log-probabilities a term needs, as arguments of `head_pass.one_pass`."""

    listed: Int[Tensor, "rows listed"]
    """Token ids for each row; the first column is the target."""
    n_likeliest: int = 0
    """Number of the student's most likely tokens to append to the listed ones."""
    ends: Sequence[int] | None = None
    """Row counts after which a chunk of rows may end, for a term that couples rows; None: any."""


@runtime_checkable
class Term(Protocol):
    """The part of the objective that depends on the teacher's log-probabilities of a batch.

    Rows are those of `student.answer_rows`. `log_q` holds the hybrid's log-probabilities of the
    tokens that `asked` returns.
    """

    def asked(self, targets: Int[Tensor, " rows"], n_words: int) -> Asked:
        """The tokens whose log-probabilities are needed, from a vocabulary of `n_words`."""
        ...

    def of_rows(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """Sum of the term over a slice of rows, in nats; `log_q` holds these rows only."""
        ...

    def figures(
        self, log_q: Float[Tensor, "rows asked"], n_tokens: int, ranks: Ranks
    ) -> dict[str, float]:
        """Metrics of a step over all processes, whose batches have `n_tokens` rows in total."""
        ...


@runtime_checkable
class Method(Protocol):
    """A way of learning from a teacher."""

    @property
    def top_logprobs(self) -> int:
        """Number of the teacher's most likely tokens to request at each answer token."""
        ...

    @property
    def introduction(self) -> str | None:
        """One line that describes the method; None for text alone."""
        ...

    def examples(
        self, encoder: Encoder, prompt: Prompt, answers: Sequence[Answer]
    ) -> list[Example]:
        """One example per answer of a group."""
        ...

    def check(
        self,
        held_out: Sequence[tuple[Prompt, Answer]],
        encoder: Encoder,
        teacher_tokenizer: Callable[[], PreTrainedTokenizerBase] | None,
    ) -> str | None:
        """Check that the method can learn from this teacher; returns one line on what was found.

        The check uses the held-out answers and the teacher's tokenizer, if there is one. Raises
        `UsageError` if the method cannot learn from this teacher.
        """
        ...

    def term(self, examples: Sequence[Example]) -> Term:
        """The term of these examples."""
        ...


@dataclass(frozen=True)
class LogprobMethod:
    """Fields and introduction that all methods with log-probabilities share."""

    top_logprobs: int
    weight: float
    """Weight of the term in the objective."""
    temperature: float

    name: ClassVar[str]
    """Value of `distill_loss` in the configuration."""

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
    """Share of rows with a teacher's view, and the mean of each quantity, over all processes.

    Args:
        share: name of the share, n_covered / n_tokens, in [0, 1].
        n_covered: this process's rows with a teacher's view.
        values: name -> this process's values; all quantities have the same number of values.
        n_tokens: rows of all processes.
        ranks: the run's processes.

    Without any covered row only the share is returned.
    """
    n_all = int(ranks.total(torch.tensor(n_covered)))
    found = {share: n_all / n_tokens}
    if n_all:
        (count,) = {len(value) for value in values.values()}
        own = {name: value.sum().item() / max(count, 1) for name, value in values.items()}
        found |= ranks.means(own, count)
    return found
