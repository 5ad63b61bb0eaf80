"""The score of one answer in its Atropos group, in [-1, 1].

    reward = (w_p A + w_q B) / max(1, w_p + w_q)
    A = (log V - L) / (log V + L)
    B = tanh(L_ablated - L)

L is the hybrid's cross-entropy on the answer, in nats per token, before the student is trained on
it. V is the size of the vocabulary: A is 0 for a student that guesses uniformly and 1 for one that
is certain of every token, and it decreases strictly with L. L_ablated is the loss with the quantum
logits replaced by their mean over the group, so B measures what the quantum pathway contributes to
this answer. w_p and w_q are `perplexity_weight` and `quantum_weight`. The divisor keeps the reward
in [-1, 1] for all weights; it is 1 if they add up to at most 1.
"""

from __future__ import annotations

import math


def likelihood_term(loss_nats_per_token: float, vocabulary: int) -> float:
    """A, in (-1, 1]."""
    uniform = math.log(vocabulary)
    return (uniform - loss_nats_per_token) / (uniform + loss_nats_per_token)


def quantum_term(gain_nats_per_token: float) -> float:
    """B, in [-1, 1]; the gain is the ablated loss minus the loss."""
    return math.tanh(gain_nats_per_token)


def reward(
    loss_nats_per_token: float,
    gain_nats_per_token: float,
    vocabulary: int,
    *,
    perplexity_weight: float,
    quantum_weight: float,
) -> float:
    """The score of one answer, in [-1, 1]."""
    weighted = perplexity_weight * likelihood_term(loss_nats_per_token, vocabulary)
    weighted += quantum_weight * quantum_term(gain_nats_per_token)
    return weighted / max(1.0, perplexity_weight + quantum_weight)
