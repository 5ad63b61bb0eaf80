"""Where a new student's head starts from.

The classical pathway starts as the base model's own head. The quantum pathway starts from
calibration rows: hidden states of training prompts (never of held-out text) and what the unpruned
base model predicts there. It is then worth something from the first step, and an ablation of zero
at the end means that the circuit is worth nothing, not that it was never trained.

- `down` projects onto the n directions along which the hidden states move the prediction most:
  principal components in the Fisher metric of the output embedding, M = sum_v p_v (w_v - w)(...)^T,
  scaled so that the encoding angles vary little and the circuit is nearly linear in them.
- The circuits' rotations start near zero, but for layer 0, which adds to the encoding angles and is
  set so that these are centred at pi/4. An output of the circuit is then about a product of
  cos(pi/4 + d_j), which is linear in every small d_j; centred at 0 it would lose the sign of d, and
  at pi/2 a product of several would vanish.
- `up` starts as the base model's mean prediction: its bias is the log-probability of each token, its
  weight small and random, since zero would keep the first gradients from the circuits. A steeper
  start, the linear discriminant of z, was worth 0.05 nats at step 0 and did harm as soon as the
  backbone moved (docs/log.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.student.head import ANGLE_SCALE, HybridHead, QuantumHead

PREACTIVATION_STD = 0.15
"""Standard deviation of down(g): encoding angles of about pi/4 plus or minus half a radian."""
UP_STD = 0.1


@dataclass(frozen=True)
class Calibration:
    """Rows that a head is initialised from."""

    hidden: Float[Tensor, "rows d_model"]
    """Hidden states of the student's backbone."""
    token_probability: Float[Tensor, " vocabulary"]
    """p: the unpruned base model's probability of each token, mean over the same positions."""


@torch.no_grad()
def initialise_head(head: HybridHead, calibration: Calibration, seed: int) -> None:
    """Set the trainable parts of a head."""
    generator = torch.Generator().manual_seed(seed)
    transform = head.classical.transform
    transform.into.weight.normal_(0.0, transform.into.in_features**-0.5, generator=generator)
    transform.into.bias.zero_()
    transform.out.weight.zero_()
    transform.out.bias.zero_()

    quantum = head.quantum
    g = head.classical.norm(calibration.hidden)
    probability = calibration.token_probability.double()
    _fisher_components(quantum.down, g, head.classical.decoder.weight, probability)
    _centre_circuits(quantum, g, generator)
    quantum.up.weight.normal_(0.0, UP_STD, generator=generator)
    quantum.up.bias.copy_(probability.log())
    head.alpha_logit.zero_()


def _fisher_components(
    down: nn.Linear,
    g: Float[Tensor, "rows d_model"],
    decoder: Float[Tensor, "vocabulary d_model"],
    probability: Float[Tensor, " vocabulary"],
) -> None:
    embedding = decoder.double()
    mean_embedding = probability @ embedding
    metric = (embedding * probability[:, None]).T @ embedding
    metric -= torch.outer(mean_embedding, mean_embedding)
    eigenvalues, vectors = torch.linalg.eigh(metric)
    root = vectors * eigenvalues.clamp_min(0).sqrt()

    mean = g.mean(0).double()
    centred = g.double() - mean
    covariance = centred.T @ centred / len(g)
    eigenvalues, vectors = torch.linalg.eigh(root.T @ covariance @ root)
    n = down.out_features
    if n > len(eigenvalues) or eigenvalues[-n] <= 0:
        raise ValueError(f"{len(g)} hidden states do not span {n} directions")
    directions = (root @ vectors[:, -n:]).flip(1)
    std = (directions * (covariance @ directions)).sum(0).sqrt()
    weight = (directions * (PREACTIVATION_STD / std)).T
    down.weight.copy_(weight)
    down.bias.copy_(-weight @ mean)


def _centre_circuits(
    quantum: QuantumHead, g: Float[Tensor, "rows d_model"], generator: torch.Generator
) -> None:
    angles = quantum.angles(g)
    for circuit in (quantum.circuit1, quantum.circuit2):
        circuit.reset_parameters(generator)
        circuit.weights[0] = math.pi / 4 - angles.mean(0)
        angles = ANGLE_SCALE * circuit(angles)
