"""Metrics on held-out answers with their statistics, and the reward of each answer."""

from quantum_hybrid.evaluation.metrics import (
    ablated_logits,
    all_answer_rows,
    evaluate,
    hybrid_performance,
    predictive_entropy,
    quantum_state_metrics,
    row_losses,
    variance_shares,
)
from quantum_hybrid.evaluation.rewards import likelihood_term, quantum_term, reward
from quantum_hybrid.evaluation.statistics import MeanEstimate, mean_over_units

__all__ = [
    "MeanEstimate",
    "ablated_logits",
    "all_answer_rows",
    "evaluate",
    "hybrid_performance",
    "likelihood_term",
    "mean_over_units",
    "predictive_entropy",
    "quantum_state_metrics",
    "quantum_term",
    "reward",
    "row_losses",
    "variance_shares",
]
