"""The three-part objective: hybrid + c * classical + q * quantum cross-entropy, nats per token.

Each pathway is trained as a predictor in its own right, so that alpha weighs two real predictors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.student import HybridLogits


@dataclass(frozen=True)
class Losses:
    """Mean cross-entropies over answer tokens, and their weighted sum."""

    objective: Float[Tensor, ""]
    hybrid: Float[Tensor, ""]
    classical: Float[Tensor, ""]
    quantum: Float[Tensor, ""]


def three_part_loss(
    logits: HybridLogits,
    targets: Int[Tensor, " rows"],
    *,
    classical_weight: float,
    quantum_weight: float,
) -> Losses:
    """The objective and its parts for one batch of rows."""
    hybrid = F.cross_entropy(logits.hybrid, targets)
    classical = F.cross_entropy(logits.classical, targets)
    quantum = F.cross_entropy(logits.quantum, targets)
    objective = hybrid + classical_weight * classical + quantum_weight * quantum
    return Losses(objective, hybrid, classical, quantum)
