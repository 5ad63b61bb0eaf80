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
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from quantum_hybrid.text.encoder import Example, teacher_rows

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
    log_p: Float[Tensor, "rows k"], log_q: Float[Tensor, "rows k"], temperature: float
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
