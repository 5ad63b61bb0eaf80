"""Universal logit distillation from a teacher of any vocabulary: an L1 distance of sorted lists.

Where teacher and student cut a text into other tokens, their distributions are compared where both
have a token that ends at the same byte (`alignment`), and without asking which token is which: the
most likely one with the most likely one, and so on (Boizard et al. 2024, arXiv:2402.12030). Of a
span of tokens that cover the same bytes, the distribution is the one in the place of the last,
times the probabilities of the tokens before it (the chain rule; "bayesian" in TRL's GOLD trainer),
a of the teacher's own and b of the student's:

    sum_i |a p_(i) - b q_(i)| + |a p_rest - b q_rest|,   i = 1 ... k,

where p_(i) are the k probabilities that the teacher lists, in descending order, q_(i) the k largest
of the hybrid, and each rest what is left to 1. At temperature 1 that is a lower bound on the
distance of the whole sorted lists, by the triangle inequality, and that distance where k is the
vocabulary. A temperature T softens the k + 1 buckets as in `top_k`, and leaves a and b, the
probabilities of tokens that were really taken, as they are.

There is no T^2: the gradient of a distance of probabilities gets smaller by 1 / T, not by its
square as that of a divergence, and the distance is at most 2 at any T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.distillation.top_k import rounding_of, soft_buckets
from quantum_hybrid.text.encoder import Example


@dataclass(frozen=True)
class SpanTopK:
    """What the teacher says of spans of a batch's rows, by the places of their last tokens."""

    first: Int[Tensor, " spans"]
    """Row of the first token; ascending, and no row is in two spans."""
    last: Int[Tensor, " spans"]
    """Row of the last token."""
    log_a: Float[Tensor, " spans"]
    log_p: Float[Tensor, "spans k"]
    """Both in float64; minus infinity where fewer than k tokens are listed."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> SpanTopK:
        """Rows are those of `student.answer_rows`; k is the longest list's."""
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
        """The student's, in each."""
        return self.last - self.first + 1

    def ends(self, n_rows: int) -> list[int]:
        """After how many rows one may stop without having stopped within a span."""
        may_end = torch.ones(n_rows + 1, dtype=torch.bool)
        for first, last in zip(self.first.tolist(), self.last.tolist(), strict=True):
            may_end[first + 1 : last + 1] = False
        return may_end.nonzero().flatten().tolist()[1:]

    def within(self, rows: slice) -> SpanTopK:
        """The spans of some rows, numbered from the first of these; none may be cut in two."""
        inside = (self.first >= rows.start) & (self.last < rows.stop)
        first, last = self.first[inside] - rows.start, self.last[inside] - rows.start
        return SpanTopK(first, last, self.log_a[inside], self.log_p[inside])


def span_distances(
    teacher: SpanTopK,
    log_q: Float[Tensor, "rows asked"],
    temperature: float,
) -> Float[Tensor, " spans"]:
    """The module's distance of each span, in [0, 2], differentiable by `log_q`, in float64.

    Of each row `log_q` has the hybrid's log-probabilities of its target and, behind it, of its most
    likely tokens: k, or all there are.
    """
    listed, k = teacher.log_p.isfinite(), teacher.log_p.shape[1]
    largest = F.pad(log_q[teacher.last, 1:], (0, k + 1 - log_q.shape[1]), value=-math.inf)
    p = soft_buckets(teacher.log_p, listed, temperature).exp()
    q = soft_buckets(largest, listed, temperature, rounding_of(log_q)).exp()
    so_far = F.pad(log_q[:, 0].double().cumsum(0), (1, 0))
    log_b = so_far[teacher.last] - so_far[teacher.first]
    return (teacher.log_a.exp()[:, None] * p - log_b.exp()[:, None] * q).abs().sum(-1)
