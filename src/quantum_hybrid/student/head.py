"""The hybrid next-token head: hidden states in, three sets of logits out; the whole forward.

For a hidden state h in R^d (the residual stream before the final norm) and a vocabulary of V:

    C = e^t decoder(norm(transform(h)))                  classical pathway
    Q = up(circuit2(s * circuit1(s * tanh(down(g)))))    quantum pathway, d -> n -> n -> V
    H = (alpha C + (1 - alpha) Q) / r                    mixing="logits"
    H = log(alpha softmax(C) + (1 - alpha) softmax(Q))   mixing="probability"

alpha = sigmoid(a) is learned and starts at 1/2; 1 is fully classical, 0 fully quantum; s = pi.
r = sqrt(alpha^2 + (1 - alpha)^2) keeps the scale of what is mixed. Without it the logits of a
mixture that is all but classical are C times alpha, hence less sure of themselves than C is, and
that costs more than a weak Q can bring (docs/log.md).
`transform` is a residual block that starts as the identity and t starts at 0, so C starts as the
base model's logits.
The quantum pathway sees g = norm(h), the base model's last hidden state in Hugging Face's terms.
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
    """The three predictions at each position; rows are positions."""

    hybrid: Float[Tensor, "*positions vocabulary"]
    classical: Float[Tensor, "*positions vocabulary"]
    quantum: Float[Tensor, "*positions vocabulary"]
    z: Float[Tensor, "*positions qubits"]
    """Expectation values that `quantum` was made of, in [-1, 1]."""


class Transform(nn.Module):
    """A residual feed-forward block, h + out(gelu(in(h / rms(h)))); the identity at the start."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.into = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        return h + self.out(F.gelu(self.into(F.rms_norm(h, h.shape[-1:]))))


class ClassicalHead(nn.Module):
    """C = e^t decoder(norm(transform(h))): a transformer head, a residual block, a scale."""

    def __init__(self, norm: nn.Module, d_model: int, vocabulary: int, decoder_bias: bool) -> None:
        super().__init__()
        self.transform = Transform(d_model)
        self.norm = norm
        self.decoder = nn.Linear(d_model, vocabulary, bias=decoder_bias)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def features(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        """What the decoder is given; to scale this is cheaper than to scale what it puts out."""
        return self.log_scale.exp() * self.norm(self.transform(h))

    def bias(self) -> Float[Tensor, " vocabulary"] | None:
        """The decoder's bias on the same scale."""
        bias = self.decoder.bias
        return None if bias is None else self.log_scale.exp() * bias

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> Tensor:
        return F.linear(self.features(h), self.decoder.weight, self.bias())


class QuantumHead(nn.Module):
    """Q = up(z), where z in [-1, 1]^n are the expectation values after the two circuits."""

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
        """Encoding angles of the second circuit: s times what the first one measures."""
        return ANGLE_SCALE * self.circuit1(angles)

    def expectations(
        self, g: Float[Tensor, "*positions d_model"]
    ) -> Float[Tensor, "*positions qubits"]:
        """z: what the second circuit measures."""
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
        """What C and Q are multiplied by in the mixture; of probabilities with that mixing."""
        alpha, rest = torch.sigmoid(self.alpha_logit), torch.sigmoid(-self.alpha_logit)
        r = torch.hypot(alpha, rest) if self.mixing == "logits" else 1
        return alpha / r, rest / r

    def log_weights(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Logarithms of alpha and 1 - alpha: finite also where one of these is no float."""
        return F.logsigmoid(self.alpha_logit), F.logsigmoid(-self.alpha_logit)

    def mix(self, classical: Tensor, quantum: Tensor) -> Tensor:
        """H from C and Q, both (..., vocabulary)."""
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
        """z: what the circuits tell of a position, n numbers in [-1, 1]."""
        return self.quantum.expectations(self.classical.norm(h))

    def forward(self, h: Float[Tensor, "*positions d_model"]) -> HybridLogits:
        z = self.expectations(h)
        classical, quantum = self.classical(h), self.quantum.up(z)
        return HybridLogits(self.mix(classical, quantum), classical, quantum, z)
