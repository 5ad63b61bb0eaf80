"""Distillation from the teacher's text alone. The vocabularies may differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantum_hybrid.distillation.method import Asked, Term
from quantum_hybrid.processes.ranks import Ranks
from quantum_hybrid.text.encoder import Encoder, Example
from quantum_hybrid.text.records import Answer, Prompt


@dataclass(frozen=True)
class NoTerm:
    """The empty term: the objective is the cross-entropies only."""

    def asked(self, targets: Int[Tensor, " rows"], n_words: int) -> Asked:
        """See `Term`."""
        return Asked(targets[:, None])

    def of_rows(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """See `Term`."""
        return log_q.new_zeros(())

    def figures(
        self, log_q: Float[Tensor, "rows asked"], n_tokens: int, ranks: Ranks
    ) -> dict[str, float]:
        """See `Term`."""
        return {}


NO_TERM = NoTerm()


@dataclass(frozen=True)
class TextAlone:
    """The `Method` that learns from the teacher's text alone."""

    top_logprobs: int = 0
    introduction: str | None = None

    def examples(
        self, encoder: Encoder, prompt: Prompt, answers: Sequence[Answer]
    ) -> list[Example]:
        """See `Method`."""
        return encoder.examples(prompt, answers)

    def check(
        self,
        held_out: Sequence[tuple[Prompt, Answer]],
        encoder: Encoder,
        teacher_tokenizer: Callable[[], PreTrainedTokenizerBase] | None,
    ) -> str | None:
        """Accept any teacher."""
        return None

    def term(self, examples: Sequence[Example]) -> Term:
        """See `Method`."""
        return NO_TERM
