"""Distillation from the teacher's top-k log-probabilities: T^2 KL(teacher, student), in nats.

A teacher lists its k most likely tokens at a position. For all other tokens only their total
probability is known. Both distributions are therefore reduced to k + 1 buckets, one per listed
token and one for the rest, and softened by a temperature T:

    b_i = p_i^(1/T) / sum_j p_j^(1/T),   p_(k+1) = 1 - sum_(i <= k) p_i.

At T = 1 the divergence of the buckets is a lower bound on the divergence over the whole vocabulary,
because merging tokens loses information. For T > 1 the buckets are not Hinton's softened softmax:
the distribution within the rest is unknown, so the rest is softened as one token and receives less
mass. At any T the term is zero if and only if the student's buckets equal the teacher's. The factor
T^2 keeps the size of the gradient (Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2; used by
DistilBERT, Sanh et al. 2019, arXiv:1910.01108). Leaving the rest out and normalising the listed
tokens among themselves would bias the student towards them (Anshumann et al. 2025,
arXiv:2503.16870).

Teacher and student must number their tokens alike, which `ByToken` checks.
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
"""Smallest mass of the student's rest, in units of the dtype's epsilon. The rest is a difference of
numbers near 1; below this it is rounding error, so it is clamped and has no gradient."""


@dataclass(frozen=True)
class TopK:
    """The teacher's k most likely next tokens at each row of a batch."""

    ids: Int[Tensor, "rows k"]
    log_p: Float[Tensor, "rows k"]
    """Log-probabilities in float64; minus infinity where fewer than k tokens are listed."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> TopK:
        """Collect the lists in the order of `student.answer_rows`; k is the longest list's."""
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
        """Whether the teacher lists any token at each row."""
        return self.log_p.isfinite().any(1)


def top_k_kl(
    log_p: Float[Tensor, "rows k"], log_q: Float[Tensor, "rows k"], temperature: float = 1.0
) -> Float[Tensor, " rows"]:
    """T^2 KL(teacher, student) of each row's buckets, in nats; differentiable in `log_q`.

    The formula is in the module's docstring. Where `log_p` is minus infinity no token is listed and
    `log_q` is ignored.
    """
    listed = log_p.isfinite()
    log_b = soft_buckets(log_p, listed, temperature)
    log_c = soft_buckets(log_q, listed, temperature, rounding_of(log_q))
    # A bucket in which the teacher has no mass adds 0; the student's may be empty too.
    difference = torch.where(log_b.isfinite(), log_b - log_c, 0)
    return temperature**2 * (log_b.exp() * difference).sum(-1)


def soft_buckets(
    log_p: Float[Tensor, "rows k"],
    listed: Bool[Tensor, "rows k"],
    temperature: float,
    floor: float = 0.0,
) -> Float[Tensor, "rows k+1"]:
    """log b of the module's docstring, in float64. The rest's mass is at least `floor`."""
    log_p = torch.where(listed, log_p.double(), -math.inf)
    rest = (1 - log_p.exp().sum(-1, keepdim=True)).clamp_min(floor)
    return (torch.cat([log_p, rest.log()], -1) / temperature).log_softmax(-1)


def rounding_of(log_q: Tensor) -> float:
    """Smallest mass of the student's rest that is more than rounding error in its dtype."""
    return _FLOOR_IN_EPS * torch.finfo(log_q.dtype).eps


@dataclass(frozen=True)
class DivergenceTerm:
    """The weighted divergence, summed over the rows where the teacher lists tokens; a `Term`."""

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
        """The divergence at temperature 1, so that runs at different T can be compared."""
        known = self.teacher.log_p[self.teacher.known]
        values = {
            "train/kl_to_teacher": top_k_kl(known, log_q[self.teacher.known, 1:]),
            "train/kl_listed": known.isfinite().sum(1).double(),
        }
        return share_and_means("train/kl_rows", len(known), values, n_tokens, ranks)


@dataclass(frozen=True)
class ByToken(LogprobMethod):
    """Learn from a teacher that has the student's vocabulary; a `Method`."""

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
        """Raise `UsageError` unless teacher and student number their tokens alike."""
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
        return f"shared by teacher and student: {found}{n_same} tokens"

    def term(self, examples: Sequence[Example]) -> Term:
        """See `Method`."""
        return DivergenceTerm(TopK.of(examples), self.weight, self.temperature)
