"""The hybrid next-token head: from hidden states to hybrid, classical and quantum logits.

For a hidden state h in R^d (the residual stream before the final norm) and a vocabulary of V:

    C = e^t decoder(norm(transform(h)))                  classical pathway
    Q = up(circuit2(s * circuit1(s * tanh(down(g)))))    quantum pathway, d -> n -> n -> V
    H = (alpha C + (1 - alpha) Q) / r                    mixing="logits"
    H = log(alpha softmax(C) + (1 - alpha) softmax(Q))   mixing="probability"

alpha = sigmoid(a) is learned and starts at 1/2; 1 is fully classical, 0 fully quantum; s = pi.
r = sqrt(alpha^2 + (1 - alpha)^2) preserves the scale of the logits. Without it the logits of an
almost classical mixture are alpha C, a flatter distribution than C's, which costs more than a weak
Q can gain (docs/log.md).
`transform` is a residual block that starts as the identity and t starts at 0, so C starts as the
base model's logits.
The quantum pathway reads g = norm(h), which Hugging Face calls the last hidden state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.circuit import QuantumLayer

Mixing = Literal["logits", "probability"]
ANGLE_SCALE = math.pi
"""s: the range of an encoding angle is (-s, s)."""


@dataclass
class HybridLogits:
    """The logits of the three predictors at each position."""

    hybrid: Float[Tensor, "*positions vocabulary"]
    classical: Float[Tensor, "*positions vocabulary"]
    quantum: Float[Tensor, "*positions vocabulary"]
    z: Float[Tensor, "*positions qubits"]
    """Expectation values from which `quantum` was computed, in [-1, 1]."""


class Transform(nn.Module):
    """A residual feed-forward block, h + out(gelu(into(h / rms(h)))); it starts as the identity."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.into = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        return h + self.out(F.gelu(self.into(F.rms_norm(h, h.shape[-1:]))))


class ClassicalHead(nn.Module):
    """C = e^t decoder(norm(transform(h))): a residual block, norm, decoder and a learned scale."""

    def __init__(self, norm: nn.Module, d_model: int, vocabulary: int, decoder_bias: bool) -> None:
        super().__init__()
        self.transform = Transform(d_model)
        self.norm = norm
        self.decoder = nn.Linear(d_model, vocabulary, bias=decoder_bias)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def features(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        """Input of the decoder, scaled by e^t: cheaper than scaling the logits."""
        return self.log_scale.exp() * self.norm(self.transform(h))

    def bias(self) -> Float[Tensor, " vocabulary"] | None:
        """The decoder's bias, scaled by e^t; None if it has none."""
        bias = self.decoder.bias
        return None if bias is None else self.log_scale.exp() * bias

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        return F.linear(self.features(h), self.decoder.weight, self.bias())


class QuantumHead(nn.Module):
    """Q = up(z), where z in [-1, 1]^n are the expectation values of the second circuit."""

    def __init__(
        self,
        d_model: int,
        vocabulary: int,
        n_qubits: int,
        n_layers: int,
        *,
        entangler: str = "ring",
        reupload: bool = False,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, n_qubits)
        self.circuit1 = QuantumLayer(n_qubits, n_layers, entangler, reupload, engine)
        self.circuit2 = QuantumLayer(n_qubits, n_layers, entangler, reupload, engine)
        self.up = nn.Linear(n_qubits, vocabulary)

    def angles(self, g: Float[Tensor, "*positions d_model"]) -> Float[Tensor, "*positions qubits"]:
        """Encoding angles of the first circuit, in (-s, s)."""
        return ANGLE_SCALE * torch.tanh(self.down(g))

    def second_angles(
        self, angles: Float[Tensor, "*positions qubits"]
    ) -> Float[Tensor, "*positions qubits"]:
        """Encoding angles of the second circuit: s times the first circuit's expectations."""
        return ANGLE_SCALE * self.circuit1(angles)

    def expectations(
        self, g: Float[Tensor, "*positions d_model"]
    ) -> Float[Tensor, "*positions qubits"]:
        """z: the second circuit's expectation values, in [-1, 1]."""
        return self.circuit2(self.second_angles(self.angles(g)))

    def forward(self, g: Float[Tensor, "*positions d_model"]) -> Tensor:
        return self.up(self.expectations(g))


class HybridHead(nn.Module):
    """Both pathways and their mixture."""

    def __init__(self, classical: ClassicalHead, quantum: QuantumHead, mixing: Mixing) -> None:
        super().__init__()
        self.classical = classical
        self.quantum = quantum
        self.mixing: Mixing = mixing
        self.alpha_logit = nn.Parameter(torch.zeros(()))

    @property
    def alpha(self) -> Float[Tensor, ""]:
        """Weight of the classical pathway, in (0, 1)."""
        return torch.sigmoid(self.alpha_logit)

    def weights(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Factors of C and Q in the mixture, or of their probabilities with that mixing."""
        alpha, rest = torch.sigmoid(self.alpha_logit), torch.sigmoid(-self.alpha_logit)
        r = torch.hypot(alpha, rest) if self.mixing == "logits" else 1
        return alpha / r, rest / r

    def log_weights(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """log alpha and log(1 - alpha): finite even where alpha rounds to 0 or 1."""
        return F.logsigmoid(self.alpha_logit), F.logsigmoid(-self.alpha_logit)

    def mix(self, classical: Tensor, quantum: Tensor) -> Tensor:
        """H from C and Q, all of shape (..., vocabulary)."""
        if self.mixing == "logits":
            of_classical, of_quantum = self.weights()
            return of_classical * classical + of_quantum * quantum
        log_alpha, log_rest = self.log_weights()
        return torch.logaddexp(
            log_alpha + F.log_softmax(classical, -1), log_rest + F.log_softmax(quantum, -1)
        )

    def expectations(
        self, h: Float[Tensor, "*positions d_model"]
    ) -> Float[Tensor, "*positions qubits"]:
        """z: the expectation values at each position, in [-1, 1]."""
        return self.quantum.expectations(self.classical.norm(h))

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> HybridLogits:
        z = self.expectations(h)
        classical, quantum = self.classical(h), self.quantum.up(z)
        return HybridLogits(self.mix(classical, quantum), classical, quantum, z)
