"""The objective: hybrid + c * classical + q * quantum cross-entropy + term, in nats per token.

c and q train each pathway as a predictor of its own, so that alpha mixes two trained predictors.
The term is a `distillation.Term`, a sum over the rows where the teacher's log-probabilities are
known. Every sum is divided by the number of all rows.

With several processes, each computes the objective of its own rows divided by the mean number of
rows per process. The mean over processes, and that of the gradients, is then the objective of all
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.distillation import NO_TERM, Term
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.student import HybridHead
from quantum_hybrid.training.head_pass.one_pass import LogProbabilities, one_pass


@dataclass(frozen=True)
class Losses:
    """The objective, and the losses in nats at each row; only the objective has a gradient."""

    objective: Float[Tensor, ""]
    hybrid: Float[Tensor, " rows"]
    classical: Float[Tensor, " rows"]
    quantum: Float[Tensor, " rows"]
    ablated: Float[Tensor, " rows"]
    """The hybrid's loss with the quantum logits replaced by their mean over the rows."""
    log_q: Float[Tensor, "rows asked"]
    """The hybrid's log-probabilities of the target and of the other tokens that the term needs."""


def three_part_loss(
    head: HybridHead,
    hidden: Float[Tensor, "rows d_model"],
    targets: Int[Tensor, " rows"],
    *,
    classical_weight: float,
    quantum_weight: float,
    term: Term = NO_TERM,
    ranks: Ranks = ALONE,
) -> Losses:
    """The objective over this process's rows, and the losses at each row."""
    n_rows = ranks.mean(torch.tensor([len(targets)], dtype=torch.float64), 1).item()

    def objective(log_p: LogProbabilities, rows: slice) -> Float[Tensor, ""]:
        target = (log_p.hybrid[:, 0], log_p.classical[:, 0], log_p.quantum[:, 0])
        of_pathways = classical_weight * target[1] + quantum_weight * target[2]
        loss = -(target[0] + of_pathways).sum() + term.of_rows(log_p.hybrid, rows)
        return loss / n_rows

    asked = term.asked(targets, head.classical.decoder.out_features)
    value, log_p = one_pass(
        head,
        hidden,
        asked.listed,
        objective,
        ranks,
        n_likeliest=asked.n_likeliest,
        ends=asked.ends,
    )
    parts = (log_p.hybrid, log_p.classical, log_p.quantum, log_p.ablated)
    return Losses(value, *(-part[:, 0] for part in parts), log_q=log_p.hybrid)
