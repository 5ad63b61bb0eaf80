"""The three-part objective: hybrid + c * classical + q * quantum cross-entropy, nats per token.

Each pathway is trained as a predictor in its own right, so that alpha weighs two real predictors.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.student import HybridHead
from quantum_hybrid.training.one_pass import LogProbabilities, one_pass


@dataclass(frozen=True)
class Losses:
    """The objective, and the cross-entropies of each row, which have no gradient of their own."""

    objective: Float[Tensor, ""]
    hybrid: Float[Tensor, " rows"]
    classical: Float[Tensor, " rows"]
    quantum: Float[Tensor, " rows"]
    ablated: Float[Tensor, " rows"]
    """The hybrid's with the quantum logits replaced by their mean over the rows."""


def three_part_loss(
    head: HybridHead,
    hidden: Float[Tensor, "rows d_model"],
    targets: Int[Tensor, " rows"],
    *,
    classical_weight: float,
    quantum_weight: float,
) -> Losses:
    """The objective over rows, each part a mean over them, and what it is made of."""

    def objective(log_p: LogProbabilities, rows: slice) -> Float[Tensor, ""]:
        of_pathways = classical_weight * log_p.classical + quantum_weight * log_p.quantum
        return -(log_p.hybrid + of_pathways).sum() / len(targets)

    value, log_p = one_pass(head, hidden, targets[:, None], objective)
    parts = (log_p.hybrid, log_p.classical, log_p.quantum, log_p.ablated)
    return Losses(value, *(-part.squeeze(1) for part in parts))
