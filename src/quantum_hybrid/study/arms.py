"""The arms of a study: what may stand between `down` and `up`. A row of `ARMS` for each.

An arm f maps angles (rows, n), s tanh(down g) in (-s, s), to z (rows, n), from which `up` predicts.
Its row says how it is made from a `Shape` and a generator of random numbers. To add one, write a
module with `forward` and `multiply_adds`, and a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.circuit import Ansatz, QuantumLayer
from quantum_hybrid.circuit.analysis.surrogate import Surrogate
from quantum_hybrid.student.head import ANGLE_SCALE
from quantum_hybrid.student.initialisation import centre_circuits

SUBJECT = "ring"
"""The arm with which all others are compared: the circuits of the student's head."""
NOTHING, NEGATIVE_CONTROL = "nothing", "shuffled"
"""Arms that must be worth the same."""
NO_MAP = "identity"
WRITER = "writer"
"""The arm that a positive control adds: it must be better than no map."""
FOURIER_FEATURES = 64
MOST_STATE_QUBITS = 20
MOST_POLYNOMIAL_QUBITS = 10
"""3^10 coefficients for each of 10 outputs are 2.4 MB and two multiply-adds each for every row."""


@dataclass(frozen=True)
class Shape:
    """The size of an arm."""

    n: int
    """Numbers in and out: the qubits of a circuit."""
    n_layers: int
    """Layers of each circuit."""

    @property
    def n_weights(self) -> int:
        """Weights of the subject's two circuits."""
        return 2 * self.n * self.n_layers


class ArmMap(nn.Module):
    """f: angles (rows, n) to z (rows, n)."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one row; by default none."""
        return 0

    def centre(self, angles: Float[Tensor, "rows n"]) -> None:
        """Set the start for these angles of calibration rows; by default nothing."""

    def fan_ins(self) -> dict[Tensor, int]:
        """Matrices that are trained, and how many numbers each output of theirs adds up.

        Their learning rate is divided by the square root of that number; without it, a step at
        the rates of a circuit's angles moves 3^n coefficients far past any minimum.
        """
        linear = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return {module.weight: module.in_features for module in linear}


class Identity(ArmMap):
    """z = tanh(down g): nothing stands there."""

    def forward(self, angles: Tensor) -> Tensor:
        return angles / ANGLE_SCALE


class Nothing(ArmMap):
    """z = 0: `up` has its bias only, so the prediction is the unigram's, or C recalibrated."""

    def forward(self, angles: Tensor) -> Tensor:
        return 0 * angles


class Affine(ArmMap):
    """z = A tanh(down g) + c, from the identity."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(shape.n, shape.n)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(shape.n))
            self.linear.bias.zero_()

    @property
    def multiply_adds(self) -> int:
        return self.linear.weight.numel()

    def forward(self, angles: Tensor) -> Tensor:
        return self.linear(angles / ANGLE_SCALE)


class Perceptron(ArmMap):
    """z = x + V tanh(W x + b) + c with x = tanh(down g), from the identity (V = 0).

    The number of hidden units gives it the subject's number of weights, or the next above.
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        hidden = max(1, math.ceil((shape.n_weights - shape.n) / (2 * shape.n + 1)))
        self.into = nn.Linear(shape.n, hidden)
        self.out = nn.Linear(hidden, shape.n)
        with torch.no_grad():
            self.into.weight.normal_(std=shape.n**-0.5, generator=generator)
            self.into.bias.zero_()
            self.out.weight.zero_()
            self.out.bias.zero_()

    @property
    def multiply_adds(self) -> int:
        return self.into.weight.numel() + self.out.weight.numel()

    def forward(self, angles: Tensor) -> Tensor:
        x = angles / ANGLE_SCALE
        return x + self.out(torch.tanh(self.into(x)))


class Circuits(ArmMap):
    """Circuits one after the other; the next one's angles are s times the expectations."""

    def __init__(
        self,
        shape: Shape,
        generator: torch.Generator,
        *,
        times: int = 2,
        entangler: str = "ring",
        reupload: bool = False,
        uniform: bool = False,
    ) -> None:
        """uniform: draw all angles uniformly and leave them there, instead of near the identity."""
        super().__init__()
        self._generator, self._uniform = generator, uniform
        self.circuits = tuple(
            QuantumLayer(shape.n, shape.n_layers, entangler, reupload, generator=generator)
            for _ in range(times)
        )
        self._registered = nn.ModuleList(self.circuits)
        if uniform:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -math.pi, math.pi, generator=generator)

    @property
    def multiply_adds(self) -> int:
        """Of real state vectors: two for an amplitude and rotation, one for an amplitude and Z.

        Without CNOTs each qubit has a state of its own. Above `MOST_STATE_QUBITS`, of the transfer
        matrices of a ring: 16^(layers - 1) a qubit.
        """
        return sum(_multiply_adds(circuit.ansatz) for circuit in self.circuits)

    def centre(self, angles: Tensor) -> None:
        if not self._uniform:
            centre_circuits(self.circuits, angles, self._generator)

    def forward(self, angles: Tensor) -> Tensor:
        z = angles / ANGLE_SCALE
        for circuit in self.circuits:
            z = circuit(ANGLE_SCALE * z)
        return z


def _multiply_adds(ansatz: Ansatz) -> int:
    n = ansatz.n_qubits
    alone = ansatz.entangler == "none"
    if n > MOST_STATE_QUBITS and not alone:
        return n * 16 ** (ansatz.n_layers - 1)
    rotations = ansatz.n_layers * (2 if ansatz.reupload else 1)
    return n * (2 if alone else 2**n) * (2 * rotations + 1)


class Shuffled(Circuits):
    """The subject's z, shuffled among the rows: it must be worth nothing."""

    def forward(self, angles: Tensor) -> Tensor:
        z = super().forward(angles)
        return z[torch.randperm(len(z), generator=self._generator)]


class Fourier(ArmMap):
    """A linear readout of cos(w x + phase), with random w from the spectrum of one circuit.

    A circuit that encodes each angle once is a Fourier series with frequencies -1, 0 and 1 of each
    angle (Schuld, Sweke & Meyer 2021, arXiv:2008.08605). The phases are random, and not trained.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        size = (FOURIER_FEATURES, shape.n)
        drawn = torch.randint(-1, 2, size, generator=generator).float()
        self.register_buffer("frequencies", drawn)
        phases = 2 * math.pi * torch.rand(FOURIER_FEATURES, generator=generator)
        self.register_buffer("phases", phases)
        self.out = nn.Linear(FOURIER_FEATURES, shape.n)
        with torch.no_grad():
            self.out.weight.normal_(std=FOURIER_FEATURES**-0.5, generator=generator)
            self.out.bias.zero_()

    @property
    def multiply_adds(self) -> int:
        return 2 * self.frequencies.numel()

    def forward(self, angles: Tensor) -> Tensor:
        return self.out(torch.cos(angles @ self.frequencies.T + self.phases))


class Polynomial(ArmMap):
    """The polynomial of one circuit, all 3^n coefficients of an output trained directly.

    It starts as the circuit's own (Schreiber, Eisert & Meyer 2022, arXiv:2206.11740).
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        # In a tuple, so that its weights are no parameters of this module.
        self._start = (Circuits(shape, generator, times=1),)
        self.coefficients = nn.Parameter(torch.empty(3**shape.n, shape.n))
        self._take_over()

    @torch.no_grad()
    def _take_over(self) -> None:
        (circuit,) = self._start[0].circuits
        self.coefficients.copy_(Surrogate.of(circuit).coefficients)

    @property
    def multiply_adds(self) -> int:
        return self.coefficients.numel() + len(self.coefficients)

    def centre(self, angles: Tensor) -> None:
        self._start[0].centre(angles)
        self._take_over()

    def fan_ins(self) -> dict[Tensor, int]:
        return {self.coefficients: len(self.coefficients)}

    def forward(self, angles: Tensor) -> Tensor:
        # (rows, 3^n): products of 1, cos or sin of every angle, qubit 0 the most significant digit.
        factors = torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], -1)
        terms = factors[:, 0]
        for factor in factors[:, 1:].unbind(1):
            terms = (terms[:, :, None] * factor[:, None]).flatten(1)
        return terms @ self.coefficients


@dataclass(frozen=True)
class Arm:
    """A row of the table."""

    name: str
    says: str
    """What stands between `down` and `up`."""
    make: Callable[[Shape, torch.Generator], ArmMap]
    trains: bool = True
    """Whether its own parameters are trained; `down` and `up` always are."""

    def build(self, shape: Shape, seed: int) -> ArmMap:
        """The arm's map with the initial values of a seed."""
        generator = torch.Generator().manual_seed(seed)
        return self.make(shape, generator).requires_grad_(self.trains)


def _circuits(**options: Any) -> Callable[[Shape, torch.Generator], Circuits]:
    return partial(Circuits, **options)


_TABLE = (
    Arm(SUBJECT, "two circuits with a ring of CNOTs, the student's own", _circuits()),
    Arm(NOTHING, "z = 0: a bias of the vocabulary alone", lambda *_: Nothing()),
    Arm("identity", "no map", lambda *_: Identity()),
    Arm("affine", "an n x n matrix and a shift", Affine),
    Arm("mlp", "one hidden tanh layer with the circuits' number of weights", Perceptron),
    Arm("no entangler", "two circuits without CNOTs", _circuits(entangler="none")),
    Arm("chain", "two circuits with a chain of CNOTs", _circuits(entangler="chain")),
    Arm("ring once", "one circuit with a ring of CNOTs", _circuits(times=1)),
    Arm("frozen ring", "the two circuits, left at their start", _circuits(), trains=False),
    Arm(
        "frozen random",
        "two ring circuits with random angles, left there",
        _circuits(uniform=True),
        trains=False,
    ),
    Arm("fourier", f"{FOURIER_FEATURES} random Fourier features of a circuit's spectrum", Fourier),
    Arm("polynomial", "the polynomial of one circuit, its coefficients trained", Polynomial),
    Arm("re-uploading", "two rings that encode before every layer", _circuits(reupload=True)),
    Arm(NEGATIVE_CONTROL, "the two circuits' outputs, shuffled among tokens", Shuffled),
)
ARMS = {arm.name: arm for arm in _TABLE}
_WRITER = Arm(
    WRITER, "the two circuits that have written the planted text", _circuits(), trains=False
)


def arm_named(name: str) -> Arm:
    """An arm of the table, or the one that a positive control adds."""
    return _WRITER if name == WRITER else ARMS[name]
