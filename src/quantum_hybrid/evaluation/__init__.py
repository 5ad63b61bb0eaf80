"""What a student is worth: metrics on held-out answers, and the reward of each answer."""

from quantum_hybrid.evaluation.metrics import (
    ablated_logits,
    all_answer_rows,
    clustered_standard_error,
    evaluate,
    hybrid_performance,
    kl_to_teacher,
    predictive_entropy,
    quantum_state_metrics,
    row_losses,
    variance_shares,
)
from quantum_hybrid.evaluation.rewards import likelihood_term, quantum_term, reward

__all__ = [
    "ablated_logits",
    "all_answer_rows",
    "clustered_standard_error",
    "evaluate",
    "hybrid_performance",
    "kl_to_teacher",
    "likelihood_term",
    "predictive_entropy",
    "quantum_state_metrics",
    "quantum_term",
    "reward",
    "row_losses",
    "variance_shares",
]
