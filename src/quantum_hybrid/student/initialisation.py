"""Initial weights of a new student's head, from hidden states of training prompts.

The classical pathway starts as the base model's own head. The quantum pathway is fitted to
calibration rows: hidden states of training prompts (never of held-out text) and the unpruned base
model's predictions there. It is therefore informative from the first step, and an ablation of zero
at the end of a run is not explained by a circuit that was never trained.

- `down` projects onto the n directions along which the hidden states change the prediction most:
  principal components in the Fisher metric of the output embedding, M = sum_v p_v (w_v - w)(...)^T
  with w = sum_v p_v w_v. They are scaled so that the encoding angles vary little and the circuit is
  nearly linear in them.
- The circuits' rotations start near zero, except in layer 0. That layer adds to the encoding angles
  and centres them at phi. An output of the circuit is then approximately the product of k factors
  cos(phi + d_j). Its slope in a small d_j, |sin phi| cos(phi)^(k-1), is largest at
  tan(phi)^2 = 1 / (k - 1). A product centred at 0 would lose the sign of d; one centred at pi/2, or
  at pi/4 with many qubits, would vanish.
- `up` starts as the linear discriminant (Fisher 1936) of the next token given z, with each token's
  mean m_v weighted by the base model's probabilities p_v. With m and S the mean and covariance of
  z, logit_v = log p_v + (z - (m_v + m) / 2) S^-1 (m_v - m).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.circuit import Ansatz, QuantumLayer
from quantum_hybrid.errors import UsageError
from quantum_hybrid.student.head import ANGLE_SCALE, ClassicalHead, HybridHead

PREACTIVATION_STD = 0.05
"""Standard deviation of down(g), so that the angles are phi +- 0.16. docs/log.md compares values
from 0.05 to 0.3: the smaller, the better `up` predicts."""
PSEUDO_COUNT = 1.0
"""Weight, in rows, with which the mean z of a token is shrunk towards the mean of all tokens."""
RIDGE = 1e-4
"""Added to the diagonal of S, relative to its mean diagonal."""
ROWS_PER_CHUNK = 256


@dataclass(frozen=True)
class Calibration:
    """Rows from which a head is initialised."""

    hidden: Float[Tensor, "rows d_model"]
    """Hidden states of the student's backbone."""
    base_g: Float[Tensor, "rows d_model"]
    """The unpruned base model's last hidden states, after its norm, at the same positions."""

    def base_probabilities(self, decoder: nn.Module) -> Iterator[Float[Tensor, "rows vocabulary"]]:
        """The base model's next-token probabilities, `ROWS_PER_CHUNK` rows at a time.

        All rows together would take too much memory.
        """
        for rows in self.base_g.split(ROWS_PER_CHUNK):
            yield decoder(rows).softmax(-1).double()


@torch.no_grad()
def initialise_head(head: HybridHead, calibration: Calibration, seed: int) -> None:
    """Set the trainable parts of a head in place; the seed draws what is random.

    Raises `UsageError` if the rows span fewer directions than there are qubits.
    """
    generator = torch.Generator().manual_seed(seed)
    initialise_classical(head.classical, generator)

    quantum, decoder = head.quantum, head.classical.decoder
    g = head.classical.norm(calibration.hidden)
    sums = [rows.sum(0) for rows in calibration.base_probabilities(decoder)]
    probability = torch.stack(sums).sum(0) / len(g)
    n = quantum.down.out_features
    weight, bias = fisher_projection(g, decoder.weight, probability, n, PREACTIVATION_STD)
    quantum.down.weight.copy_(weight)
    quantum.down.bias.copy_(bias)
    circuits = (quantum.circuit1, quantum.circuit2)
    centre_circuits(circuits, quantum.angles(g), generator)
    z = quantum.expectations(g).double()
    moments = torch.zeros(len(probability), z.shape[1], dtype=torch.float64)
    chunks = zip(calibration.base_probabilities(decoder), z.split(ROWS_PER_CHUNK), strict=True)
    for rows, z_rows in chunks:
        moments += rows.T @ (z_rows - z.mean(0))
    weight, bias = linear_discriminant(z, moments / len(z), probability)
    quantum.up.weight.copy_(weight)
    quantum.up.bias.copy_(bias)
    head.alpha_logit.zero_()


@torch.no_grad()
def initialise_classical(classical: ClassicalHead, generator: torch.Generator) -> None:
    """Set the classical pathway in place, so that it starts as the base model's own head."""
    transform = classical.transform
    transform.into.weight.normal_(0.0, transform.into.in_features**-0.5, generator=generator)
    transform.into.bias.zero_()
    transform.out.weight.zero_()
    transform.out.bias.zero_()
    classical.log_scale.zero_()


def fisher_projection(
    g: Float[Tensor, "rows d_model"],
    decoder: Float[Tensor, "vocabulary d_model"],
    probability: Float[Tensor, " vocabulary"],
    n: int,
    spread: float,
) -> tuple[Float[Tensor, "n d_model"], Float[Tensor, " n"]]:
    """Weight and bias of `down`, such that down(g) has mean 0 and standard deviation `spread`.

    `probability` is the mean over rows of the predictions. Raises `UsageError` if the rows span
    fewer than n directions.
    """
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
    if n > len(eigenvalues) or eigenvalues[-n] <= 0:
        raise UsageError(
            f"`n_qubits` {n}: {len(g)} hidden states of this backbone, {g.shape[1]} numbers "
            f"each, span fewer directions"
        )
    directions = (root @ vectors[:, -n:]).flip(1)
    std = (directions * (covariance @ directions)).sum(0).sqrt()
    weight = (directions * (spread / std)).T
    return weight, -weight @ mean


@torch.no_grad()
def centre_circuits(
    circuits: Sequence[QuantumLayer],
    angles: Float[Tensor, "rows qubits"],
    generator: torch.Generator,
) -> None:
    """Draw the weights of circuits that follow each other, and centre their angles at phi."""
    for circuit in circuits:
        circuit.reset_parameters(generator)
        circuit.weights[0] = _most_sensitive_angle(circuit.ansatz) - angles.mean(0)
        angles = ANGLE_SCALE * circuit(angles)


def _most_sensitive_angle(ansatz: Ansatz) -> float:
    """phi, where cos(phi)^k has its largest slope; k is the mean number of factors."""
    factors = [len(qubits) for qubits in ansatz.encoded_parities]
    k = sum(factors) / len(factors)
    return math.atan2(1.0, math.sqrt(k - 1))


def linear_discriminant(
    z: Float[Tensor, "rows n"],
    moments: Float[Tensor, "vocabulary n"],
    probability: Float[Tensor, " vocabulary"],
) -> tuple[Float[Tensor, "vocabulary n"], Float[Tensor, " vocabulary"]]:
    """Weight and bias of `up`.

    `moments`: p_v (m_v - m), the mean over rows of the probability of v times z - m. `probability`:
    p_v, the mean over rows.
    """
    mean = z.mean(0)
    covariance = (z - mean).T @ (z - mean) / len(z)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    shift = moments / (probability + PSEUDO_COUNT / len(z))[:, None]
    slope = torch.linalg.solve(covariance, shift.T).T
    return slope, probability.log() - 0.5 * (slope * shift).sum(-1) - slope @ mean
