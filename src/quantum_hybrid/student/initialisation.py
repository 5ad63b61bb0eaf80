"""Where a new student's head starts from.

The classical pathway starts as the base model's own head. The quantum pathway starts from hidden
states of training prompts (never of held-out ones), so that it is worth something from the first
step and a zero ablation at the end means that the circuit is worth nothing, not that it was never
trained:

- `down` projects onto the n principal components of the normalised hidden states, scaled so that
  the encoding angles spread over the circuit's range instead of saturating;
- `up`'s bias is the mean log-probability that the base model gives each token there, and its weight
  is small and random: zero would keep the first gradients from the circuits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.student.head import HybridHead, root_mean_square_normalised

PREACTIVATION_STD = 0.5
"""Standard deviation of down(h): tanh is still nearly linear there."""
UP_STD = 0.02


@torch.no_grad()
def initialise_head(
    head: HybridHead, hidden: Float[Tensor, "positions d_model"], seed: int
) -> None:
    """Set the trainable parts of a head from hidden states of training prompts."""
    generator = torch.Generator().manual_seed(seed)
    transform = head.classical.transform
    transform.into.weight.normal_(0.0, transform.into.in_features**-0.5, generator=generator)
    transform.into.bias.zero_()
    transform.out.weight.zero_()
    transform.out.bias.zero_()

    quantum = head.quantum
    quantum.circuit1.reset_parameters(generator)
    quantum.circuit2.reset_parameters(generator)
    _principal_components(quantum.down, root_mean_square_normalised(hidden))
    quantum.up.weight.normal_(0.0, UP_STD, generator=generator)
    quantum.up.bias.copy_(torch.log_softmax(head.classical(hidden), -1).mean(0))
    head.alpha_logit.zero_()


def _principal_components(down: torch.nn.Linear, x: Float[Tensor, "positions d_model"]) -> None:
    n = down.out_features
    mean = x.mean(0)
    _, singular, directions = torch.linalg.svd((x - mean).double(), full_matrices=False)
    if singular.numel() < n or singular[n - 1] <= 0:
        raise ValueError(f"{x.shape[0]} hidden states do not span {n} directions")
    std = singular[:n] / x.shape[0] ** 0.5
    weight = (directions[:n] * (PREACTIVATION_STD / std)[:, None]).to(x.dtype)
    down.weight.copy_(weight)
    down.bias.copy_(-weight @ mean)
