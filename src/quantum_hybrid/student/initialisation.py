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
- `up` starts as the linear discriminant (Fisher 1936) of the next token given z, its classes
  weighted by the base model's probabilities: logit_v = log p_v + (z - (m_v + m)/2) S^-1 (m_v - m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.student.head import ANGLE_SCALE, HybridHead, QuantumHead

PREACTIVATION_STD = 0.05
"""Standard deviation of down(g). Measured from 0.05 to 0.3, see docs/log.md: less is better."""
PSEUDO_COUNT = 1.0
"""Rows of prior weight that pull a rare token's mean z to the overall mean."""
ROWS_PER_CHUNK = 256


@dataclass(frozen=True)
class Calibration:
    """Rows that a head is initialised from."""

    hidden: Float[Tensor, "rows d_model"]
    """Hidden states of the student's backbone."""
    base_logits: Float[Tensor, "rows vocabulary"]
    """What the unpruned base model predicts at the same positions."""

    def mean_probability(self) -> Float[Tensor, " vocabulary"]:
        """p: the base model's probability of each token, mean over rows, in float64."""
        chunks = self.base_logits.split(ROWS_PER_CHUNK)
        total = sum((logits.softmax(-1).double().sum(0) for logits in chunks), torch.zeros(()))
        return total / len(self.base_logits)


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
    probability = calibration.mean_probability()
    _fisher_components(quantum.down, g, head.classical.decoder.weight, probability)
    _centre_circuits(quantum, g, generator)
    _linear_discriminant(quantum.up, quantum.expectations(g), calibration.base_logits, probability)
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


def _linear_discriminant(
    up: nn.Linear,
    z: Float[Tensor, "rows qubits"],
    base_logits: Float[Tensor, "rows vocabulary"],
    probability: Float[Tensor, " vocabulary"],
) -> None:
    mean = z.mean(0).double()
    centred = z.double() - mean
    covariance = centred.T @ centred / len(z)
    covariance += 1e-4 * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    moment = torch.zeros(len(probability), len(mean), dtype=torch.float64)
    chunks = zip(
        base_logits.split(ROWS_PER_CHUNK), centred.split(ROWS_PER_CHUNK), strict=True
    )
    for logits, rows in chunks:
        moment += logits.softmax(-1).double().T @ rows
    shift = moment / (probability * len(z) + PSEUDO_COUNT)[:, None]
    slope = torch.linalg.solve(covariance, shift.T).T
    up.weight.copy_(slope)
    up.bias.copy_(probability.log() - 0.5 * (slope * shift).sum(-1) - slope @ mean)
