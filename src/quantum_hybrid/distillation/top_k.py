"""Distillation from the teacher's top-k log-probabilities: T^2 KL(teacher, student), in nats.

A teacher that lists k tokens of a position says of all others only what they have together. So
both distributions are taken as k + 1 buckets, one for each listed token and one for the rest, and
it is these that a temperature T makes softer,

    b_i = p_i^(1/T) / sum_j p_j^(1/T),   p_(k+1) = 1 - sum_k p_k,

of the teacher's as of the student's. At T = 1 that is a lower bound on the divergence over the
whole vocabulary (merging tokens loses information). For T > 1 it is not Hinton's softened softmax:
how the rest would spread is not known, so it is softened as if it were one token, and is given
less. At any T the term is zero only where the student's buckets are the teacher's. It is
multiplied by T^2, so that its gradient keeps its size (Hinton, Vinyals, Dean 2015,
arXiv:1503.02531, section 2; so does DistilBERT, Sanh et al. 2019, arXiv:1910.01108). Were the rest
left out and the listed tokens normalised among themselves, the student would be biased towards
them (Anshumann et al. 2025, arXiv:2503.16870).

The teacher's tokens must be the student's, number by number, which `ByToken` checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantum_hybrid.distillation.method import Asked, LogprobMethod, Term, share_and_means
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes.ranks import Ranks
from quantum_hybrid.text.encoder import Encoder, Example, teacher_rows
from quantum_hybrid.text.records import Answer, Prompt
from quantum_hybrid.text.vocabularies import VocabularyMismatch, check_answers, check_fingerprints

_FLOOR_IN_EPS = 8
"""What the student leaves for the rest is a difference of numbers near 1: below so many units in
their last place it is rounding, and has no gradient."""


@dataclass(frozen=True)
class TopK:
    """What the teacher says of the next token, at each row of a batch."""

    ids: Int[Tensor, "rows k"]
    log_p: Float[Tensor, "rows k"]
    """In float64; minus infinity where fewer than k tokens are listed, or none."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> TopK:
        """In the order of `student.answer_rows`; k is the longest list's."""
        rows = teacher_rows(examples)
        n_rows = sum(len(example.tokens) - example.n_context for example in examples)
        k = max((len(ids) for ids, _ in rows.values()), default=0)
        found = torch.zeros(n_rows, k, dtype=torch.long)
        log_p = torch.full((n_rows, k), -math.inf, dtype=torch.float64)
        for row, (ids, values) in rows.items():
            found[row, : len(ids)] = torch.tensor(ids)
            log_p[row, : len(ids)] = torch.tensor(values, dtype=torch.float64)
        return cls(found, log_p)

    @property
    def known(self) -> Bool[Tensor, " rows"]:
        """Of which rows the teacher says anything."""
        return self.log_p.isfinite().any(1)


def top_k_kl(
    log_p: Float[Tensor, "rows k"], log_q: Float[Tensor, "rows k"], temperature: float = 1.0
) -> Float[Tensor, " rows"]:
    """T^2 KL of each row in nats, differentiable by the student's `log_q`; see the module.

    Where `log_p` is minus infinity nothing is listed, and `log_q` is not looked at.
    """
    listed = log_p.isfinite()
    log_b = soft_buckets(log_p, listed, temperature)
    log_c = soft_buckets(log_q, listed, temperature, rounding_of(log_q))
    # A bucket without teacher's mass adds nothing, and may be empty on both sides.
    difference = torch.where(log_b.isfinite(), log_b - log_c, 0)
    return temperature**2 * (log_b.exp() * difference).sum(-1)


def soft_buckets(
    log_p: Float[Tensor, "rows k"],
    listed: Bool[Tensor, "rows k"],
    temperature: float,
    floor: float = 0.0,
) -> Float[Tensor, "rows k+1"]:
    """Logarithms of the module's b, in float64; the rest is taken to have `floor` at least."""
    log_p = torch.where(listed, log_p.double(), -math.inf)
    rest = (1 - log_p.exp().sum(-1, keepdim=True)).clamp_min(floor)
    return (torch.cat([log_p, rest.log()], -1) / temperature).log_softmax(-1)


def rounding_of(log_q: Tensor) -> float:
    """Below this, what a student's listed tokens leave for the rest is rounding."""
    return _FLOOR_IN_EPS * torch.finfo(log_q.dtype).eps


@dataclass(frozen=True)
class DivergenceTerm:
    """The module's divergence, weighed, of the rows where the teacher's view is known."""

    teacher: TopK
    weight: float
    temperature: float

    def asked(self, targets: Int[Tensor, " rows"], n_words: int) -> Asked:
        """See `Term`."""
        return Asked(torch.cat([targets[:, None], self.teacher.ids], 1))

    def of_rows(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """See `Term`."""
        found = top_k_kl(self.teacher.log_p[rows], log_q[:, 1:], self.temperature)
        return self.weight * found.sum().to(log_q.dtype)

    def figures(
        self, log_q: Float[Tensor, "rows asked"], n_tokens: int, ranks: Ranks
    ) -> dict[str, float]:
        """At temperature 1, so that runs of different ones can be compared."""
        known = self.teacher.log_p[self.teacher.known]
        values = {
            "train/kl_to_teacher": top_k_kl(known, log_q[self.teacher.known, 1:]),
            "train/kl_listed": known.isfinite().sum(1).double(),
        }
        return share_and_means("train/kl_rows", len(known), values, n_tokens, ranks)


@dataclass(frozen=True)
class ByToken(LogprobMethod):
    """Learning from a teacher of the student's vocabulary; a `Method`."""

    name: ClassVar[str] = "kl"

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
        """A `UsageError` unless the teacher's token numbers are the student's."""
        found = ""
        try:
            if teacher_tokenizer is not None:
                common = check_fingerprints(teacher_tokenizer(), encoder.tokenizer)
                found = f"tokenizer fingerprint {common}, "
            n_same = check_answers(encoder.tokenizer, [answer for _, answer in held_out])
        except VocabularyMismatch as error:
            raise UsageError(
                f"`distill_top_logprobs` {self.top_logprobs}: {error}; start a new run without "
                "`distill_top_logprobs`: learning from the teacher's text alone, the default, "
                "needs no common vocabulary; nor does `distill_loss` uld"
            ) from error
        return f"the teacher's is the student's: {found}{n_same} tokens"

    def term(self, examples: Sequence[Example]) -> Term:
        """See `Method`."""
        return DivergenceTerm(TopK.of(examples), self.weight, self.temperature)
