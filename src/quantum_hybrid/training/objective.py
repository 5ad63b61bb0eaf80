"""The objective: hybrid + c * classical + q * quantum cross-entropy, nats per token.

Each pathway is trained as a predictor in its own right, so that alpha weighs two real predictors.
Where the teacher's log-probabilities are learned from, w T^2 KL(teacher, hybrid) is added, see
`top_k`, or w times the distance of sorted lists, see `uld`; rows without them, or in no span, add
nothing to its sum, which is divided by the number of all rows.

On several processes the objective of each is of its own rows, weighed so that the mean of them all,
and of their gradients, is that of all rows: it is divided by the mean number of rows of a process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.distillation.top_k import TopK, top_k_kl
from quantum_hybrid.distillation.uld import SpanTopK, span_distances
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.student import HybridHead
from quantum_hybrid.training.head_pass.one_pass import LogProbabilities, one_pass


@dataclass(frozen=True)
class Losses:
    """The objective, and what it is of at each row, which has no gradient of its own."""

    objective: Float[Tensor, ""]
    hybrid: Float[Tensor, " rows"]
    classical: Float[Tensor, " rows"]
    quantum: Float[Tensor, " rows"]
    ablated: Float[Tensor, " rows"]
    """The hybrid's with the quantum logits replaced by their mean over the rows."""
    kl: Float[Tensor, " known"] | None = None
    """KL(teacher, hybrid) at temperature 1, of the rows where the teacher's is known."""
    n_listed: Int[Tensor, " known"] | None = None
    """How many tokens the teacher lists at these."""
    uld: Float[Tensor, " spans"] | None = None
    """Distance of teacher and hybrid at temperature 1, of the spans that are compared."""
    n_spanned: Int[Tensor, " spans"] | None = None
    """How many rows are in each of these."""


@dataclass(frozen=True)
class Distilled:
    """What is learned from the teacher's log-probabilities, and how."""

    teacher: TopK | SpanTopK
    weight: float
    temperature: float

    def term(self, log_q: Float[Tensor, "rows asked"], rows: slice) -> Float[Tensor, ""]:
        """What some rows add to the objective; of each, its target stands before the others."""
        if isinstance(self.teacher, SpanTopK):
            found = span_distances(self.teacher.within(rows), log_q, self.temperature)
        else:
            found = top_k_kl(self.teacher.log_p[rows], log_q[:, 1:], self.temperature)
        return self.weight * found.sum().to(log_q.dtype)


def three_part_loss(
    head: HybridHead,
    hidden: Float[Tensor, "rows d_model"],
    targets: Int[Tensor, " rows"],
    *,
    classical_weight: float,
    quantum_weight: float,
    distilled: Distilled | None = None,
    ranks: Ranks = ALONE,
) -> Losses:
    """The objective over rows, each part a mean over them, and what it is made of."""
    n_rows = ranks.mean(torch.tensor([len(targets)], dtype=torch.float64), 1).item()

    def objective(log_p: LogProbabilities, rows: slice) -> Float[Tensor, ""]:
        target = (log_p.hybrid[:, 0], log_p.classical[:, 0], log_p.quantum[:, 0])
        of_pathways = classical_weight * target[1] + quantum_weight * target[2]
        loss = -(target[0] + of_pathways).sum()
        if distilled is not None:
            loss = loss + distilled.term(log_p.hybrid, rows)
        return loss / n_rows

    listed, n_likeliest, ends = targets[:, None], 0, None
    teacher = None if distilled is None else distilled.teacher
    if isinstance(teacher, TopK):
        listed = torch.cat([listed, teacher.ids], 1)
    if isinstance(teacher, SpanTopK):
        n_words = head.classical.decoder.out_features
        n_likeliest, ends = min(teacher.log_p.shape[1], n_words), teacher.ends(len(targets))
    value, log_p = one_pass(
        head, hidden, listed, objective, ranks, n_likeliest=n_likeliest, ends=ends
    )
    parts = (log_p.hybrid, log_p.classical, log_p.quantum, log_p.ablated)
    losses = Losses(value, *(-part[:, 0] for part in parts))
    if isinstance(teacher, TopK):
        known = teacher.log_p[teacher.known]
        kl = top_k_kl(known, log_p.hybrid[teacher.known, 1:], 1.0)
        losses = replace(losses, kl=kl, n_listed=known.isfinite().sum(1))
    if isinstance(teacher, SpanTopK):
        uld = span_distances(teacher, log_p.hybrid, 1.0)
        losses = replace(losses, uld=uld, n_spanned=teacher.n_tokens)
    return losses
