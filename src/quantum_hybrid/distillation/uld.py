"""Universal logit distillation from a teacher of any vocabulary: an L1 distance of sorted lists.

Teacher and student may tokenise a text differently. Their distributions are compared at the bytes
where tokens of both end (`text.alignment`), and by rank: the teacher's most likely token with the
student's most likely one, and so on (Boizard et al. 2024, arXiv:2402.12030). For a span of tokens
that cover the same bytes, the distribution is that of the last token times the probabilities of the
span's earlier tokens (chain rule; "bayesian" in TRL's GOLD trainer). This product is a for the
teacher and b for the student:

    sum_i |a p_(i) - b q_(i)| + |a p_rest - b q_rest|,   i = 1 ... k,

where p_(i) are the k probabilities that the teacher lists, in descending order, q_(i) the k largest
of the hybrid, and p_rest and q_rest the remaining mass. At temperature 1 the sum is a lower bound
on the distance of the complete sorted lists, by the triangle inequality, and equals it if k is the
size of the vocabulary. A temperature T softens the k + 1 buckets as in `top_k`; a and b are
probabilities of sampled tokens and are not softened.

There is no factor T^2: the gradient of this distance shrinks by 1 / T, whereas that of a divergence
shrinks by 1 / T^2. The distance is at most 2 at any T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantum_hybrid.distillation.method import Asked, LogprobMethod, Term, share_and_means
from quantum_hybrid.distillation.top_k import rounding_of, soft_buckets
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes.ranks import Ranks
from quantum_hybrid.text.encoder import Encoder, Example
from quantum_hybrid.text.records import Answer, Prompt


@dataclass(frozen=True)
class SpanTopK:
    """The teacher's view of spans of a batch's rows: k probabilities at each span's last token."""

    first: Int[Tensor, " spans"]
    """Row of the first token, in ascending order; spans do not overlap."""
    last: Int[Tensor, " spans"]
    """Row of the last token."""
    log_a: Float[Tensor, " spans"]
    """Log-probability of the teacher's earlier tokens in the span, in float64."""
    log_p: Float[Tensor, "spans k"]
    """Log-probabilities in descending order, in float64; minus infinity where fewer are listed."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> SpanTopK:
        """Collect the spans; rows are those of `student.answer_rows`, k is the longest list's."""
        found, n_rows = [], 0
        for example in examples:
            found += [(n_rows, span) for span in example.spans]
            n_rows += len(example.tokens) - example.n_context
        k = max((len(span.top_logprobs) for _, span in found), default=0)
        log_p = torch.full((len(found), k), -math.inf, dtype=torch.float64)
        for row, (_, span) in zip(log_p, found, strict=True):
            row[: len(span.top_logprobs)] = torch.tensor(span.top_logprobs, dtype=torch.float64)
        return cls(
            torch.tensor([row + span.tokens[0] for row, span in found], dtype=torch.long),
            torch.tensor([row + span.tokens[-1] for row, span in found], dtype=torch.long),
            torch.tensor([span.log_earlier for _, span in found], dtype=torch.float64),
            log_p,
        )

    @property
    def n_tokens(self) -> Int[Tensor, " spans"]:
        """Number of the student's tokens in each span."""
        return self.last - self.first + 1

    def ends(self, n_rows: int) -> list[int]:
        """Row counts, up to `n_rows`, at which a chunk may end without cutting a span."""
        may_end = torch.ones(n_rows + 1, dtype=torch.bool)
        for first, last in zip(self.first.tolist(), self.last.tolist(), strict=True):
            may_end[first + 1 : last + 1] = False
        return may_end.nonzero().flatten().tolist()[1:]

    def within(self, rows: slice) -> SpanTopK:
        """The spans within a slice of rows, renumbered from its start. The slice cuts no span."""
        inside = (self.first >= rows.start) & (self.last < rows.stop)
        first, last = self.first[inside] - rows.start, self.last[inside] - rows.start
        return SpanTopK(first, last, self.log_a[inside], self.log_p[inside])


def span_distances(
    teacher: SpanTopK,
    log_q: Float[Tensor, "rows asked"],
    temperature: float,
) -> Float[Tensor, " spans"]:
    """The module's distance for each span, in [0, 2], in float64; differentiable in `log_q`.

    The first column of `log_q` is the hybrid's log-probability of the row's target. The others are
    those of its most likely tokens, in descending order: k, or the whole vocabulary if smaller.
    """
    listed, k = teacher.log_p.isfinite(), teacher.log_p.shape[1]
    largest = F.pad(log_q[teacher.last, 1:], (0, k + 1 - log_q.shape[1]), value=-math.inf)
    p = soft_buckets(teacher.log_p, listed, temperature).exp()
    q = soft_buckets(largest, listed, temperature, rounding_of(log_q)).exp()
    so_far = F.pad(log_q[:, 0].double().cumsum(0), (1, 0))
    log_b = so_far[teacher.last] - so_far[teacher.first]
    return (teacher.log_a.exp()[:, None] * p - log_b.exp()[:, None] * q).abs().sum(-1)


@dataclass(frozen=True)
class DistanceTerm:
    """The weighted distance, summed over the spans that can be compared; a `Term`."""

    teacher: SpanTopK
    weight: float
    temperature: float

    def asked(self, targets: Int[Tensor, " rows"], n_words: int) -> Asked:
        """See `Term`."""
        n_likeliest = min(self.teacher.log_p.shape[1], n_words)
        return Asked(targets[:, None], n_likeliest, self.teacher.ends(len(targets)))

    def of_rows(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """See `Term`."""
        found = span_distances(self.teacher.within(rows), log_q, self.temperature)
        return self.weight * found.sum().to(log_q.dtype)

    def figures(
        self, log_q: Float[Tensor, "rows asked"], n_tokens: int, ranks: Ranks
    ) -> dict[str, float]:
        """The distance at temperature 1, so that runs at different T can be compared."""
        n_spanned = int(self.teacher.n_tokens.sum())
        values = {"train/uld": span_distances(self.teacher, log_q, 1.0)}
        return share_and_means("train/uld_rows", n_spanned, values, n_tokens, ranks)


@dataclass(frozen=True)
class ByRank(LogprobMethod):
    """Learn from a teacher with any vocabulary; a `Method`."""

    name: ClassVar[str] = "uld"

    def examples(
        self, encoder: Encoder, prompt: Prompt, answers: Sequence[Answer]
    ) -> list[Example]:
        """See `Method`."""
        return [encoder.aligned_example(prompt, answer) for answer in answers]

    def check(
        self,
        held_out: Sequence[tuple[Prompt, Answer]],
        encoder: Encoder,
        teacher_tokenizer: Callable[[], PreTrainedTokenizerBase] | None,
    ) -> str | None:
        """Raise `UsageError` unless the teacher's view covers some token of a held-out answer."""
        examples = [encoder.aligned_example(*pair) for pair in held_out]
        n_spanned = sum(len(span.tokens) for example in examples for span in example.spans)
        if n_spanned == 0:
            raise UsageError(
                "`distill_loss` uld: the teacher sends no log-probabilities of tokens that spell a "
                "held-out answer (llama.cpp, vLLM and OpenAI do); "
                "start a new run without `distill_loss` and `distill_top_logprobs`: "
                "learning from the teacher's text alone, the default, needs none"
            )
        n_tokens = sum(len(example.tokens) - example.n_context for example in examples)
        return (
            f"any: {n_spanned} of {n_tokens} tokens of the held-out answers can be compared with "
            "the teacher's"
        )

    def term(self, examples: Sequence[Example]) -> Term:
        """See `Method`."""
        return DistanceTerm(SpanTopK.of(examples), self.weight, self.temperature)
