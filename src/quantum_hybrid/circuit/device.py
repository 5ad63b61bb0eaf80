"""The circuit on any PennyLane device: simulators with shots and noise, plugins, hardware.

From input angles ``(..., n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(..., n)``. As
with an engine, but measured: each expectation is the mean of ``shots`` outcomes of +1 or -1, so it
has a standard error. One sample is one circuit, and a call hands all its circuits to the device as
one batch.

Gradients are parameter shifts, which only need more circuits of the same form: for a gate RY(t),
d<Z>/dt = (<Z>(t + pi/2) - <Z>(t - pi/2)) / 2 (Schuld et al. 2019, arXiv:1811.11184). The shifted
circuits are measured too, so the gradient is unbiased but noisy.

    circuit = on_device(layer, "qiskit.aer", shots=4096, seed=0)
    circuit(inputs)           # trains layer.weights
    circuit.measure(inputs)   # expectations and their standard errors
"""

import random
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.layer import FLOAT_DTYPES, QuantumLayer

MAX_SHOTS = 1_000_000
"""Largest number of shots: a device keeps every outcome of a circuit in memory."""


@dataclass(frozen=True)
class Measurement:
    """Expectations that a device measured, with their standard errors."""

    expectations: Float[Tensor, "*batch qubits"]
    standard_errors: Float[Tensor, "*batch qubits"]
    """sqrt((1 - z^2) / (shots - 1)), since every outcome is +1 or -1, with or without noise. 0 for
    exact expectations, NaN for a single shot. If all outcomes are equal it is 0, which is too
    small."""


class DeviceCircuit:
    """An ansatz on one device. The weights are an argument of each call.

    Args:
        ansatz: the circuit.
        device: name of a PennyLane device: ``default.qubit``, ``default.mixed``,
            ``lightning.qubit``, or one of a plugin, such as ``qiskit.aer`` or ``qulacs.simulator``.
        shots: measurements of each circuit, 1 to ``MAX_SHOTS``; None for exact expectations, if the
            device supports them.
        seed: seed of the shots, if the device takes one. The same calls then give the same
            outcomes.
        depolarising: probability p, 0 to 1, of a depolarising channel on each qubit of a gate,
            after every gate: an X, Y or Z error with probability p/3 each (Nielsen & Chuang,
            section 8.3.4). It multiplies each Pauli on that qubit by 1 - 4p/3. Only for devices
            that run channels (``default.mixed``).
        options: passed to the device, such as ``noise_model`` of ``qiskit.aer``.

    Raises:
        ValueError, TypeError: an argument is not allowed, the device is not installed, or it cannot
            run these circuits. The message names the argument, its value and the allowed values.
    """

    def __init__(
        self,
        ansatz: Ansatz,
        device: str,
        *,
        shots: int | None,
        seed: int | None = None,
        depolarising: float = 0.0,
        **options: Any,
    ) -> None:
        _check_shots(shots)
        _check_seed(seed)
        if not isinstance(depolarising, int | float) or not 0 <= depolarising <= 1:
            raise ValueError(f"depolarising={depolarising!r} must be a probability, 0 to 1")
        # Importing PennyLane takes seconds.
        from quantum_hybrid.circuit import pennylane

        self._pennylane = pennylane
        self.ansatz = ansatz
        self.name = device
        self.shots = shots
        self.depolarising = depolarising
        self.options = options
        self._seeds = None if seed is None else random.Random(seed)
        self._seed_option = pennylane.seed_option(device)
        if self._seeds is not None and self._seed_option is None:
            raise ValueError(f"seed={seed}: device={device!r} takes no seed; leave it out")
        self._device = pennylane.open_device(device, ansatz.n_qubits, options)
        pennylane.probe(device, self._device, ansatz, shots, depolarising)

    def expectations(
        self, inputs: Tensor, weights: Float[Tensor, "layers qubits"]
    ) -> Float[Tensor, "*batch qubits"]:
        """Measured Pauli-Z expectations in [-1, 1], differentiable once by inputs and weights.

        A sample takes one circuit; its gradient takes two more for each RY gate.

        Raises:
            ValueError: a shape does not fit the ansatz, a value is not finite, or the device
                refuses the circuits.
            TypeError: inputs or weights are not float32 or float64.
        """
        self._check(inputs, weights)
        rows = inputs.reshape(-1, self.ansatz.n_qubits)
        columns = [
            column.to("cpu", torch.float64).expand(len(rows), -1)
            for column in self._pennylane.rotation_columns(self.ansatz, rows, weights)
        ]
        outputs = _ParameterShift.apply(torch.stack(columns, dim=1), self)
        return outputs.to(inputs).reshape(inputs.shape)

    @torch.no_grad()
    def measure(self, inputs: Tensor, weights: Float[Tensor, "layers qubits"]) -> Measurement:
        """Expectations with their standard errors, without gradients; errors as `expectations`."""
        z = self.expectations(inputs, weights)
        if self.shots is None:
            return Measurement(z, torch.zeros_like(z))
        variance = (1 - z.square()).clamp_min(0) / torch.tensor(self.shots - 1.0)
        return Measurement(z, variance.sqrt())

    def run(
        self, angles: Float[Tensor, "circuits columns qubits"]
    ) -> Float[Tensor, "circuits qubits"]:
        """Measure circuits that are given by the angles of all their RY gates, radians, float64."""
        if len(angles) == 0:
            return angles.new_empty(0, self.ansatz.n_qubits)
        device = self._device
        if self._seeds is not None and self._seed_option is not None:
            # Qiskit Aer restarts from its seed at every call and would repeat its shots.
            seed = {self._seed_option: self._seeds.getrandbits(31)}
            device = self._pennylane.open_device(
                self.name, self.ansatz.n_qubits, self.options | seed
            )
        return self._pennylane.run(
            self.name, device, self.ansatz, angles, self.shots, self.depolarising
        )

    def _check(self, inputs: Tensor, weights: Tensor) -> None:
        ansatz = self.ansatz
        if inputs.ndim == 0 or inputs.shape[-1] != ansatz.n_qubits:
            raise ValueError(
                f"inputs has shape {tuple(inputs.shape)}; allowed: (..., {ansatz.n_qubits}), "
                "one angle for each of n_qubits"
            )
        if weights.shape != (ansatz.n_layers, ansatz.n_qubits):
            raise ValueError(
                f"weights has shape {tuple(weights.shape)}; allowed: "
                f"{(ansatz.n_layers, ansatz.n_qubits)}, (n_layers, n_qubits)"
            )
        for name, tensor in (("inputs", inputs), ("weights", weights)):
            if tensor.dtype not in FLOAT_DTYPES:
                raise TypeError(
                    f"{name} has dtype {tensor.dtype}; allowed: torch.float32, torch.float64"
                )
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds NaN or an infinity, which no device can run")


class DeviceLayer(nn.Module):
    """A layer's circuit on a device. It has the layer's own weights, so training it trains them."""

    def __init__(self, weights: nn.Parameter, circuit: DeviceCircuit) -> None:
        super().__init__()
        self.weights = weights
        self.circuit = circuit

    def forward(self, inputs: Tensor) -> Float[Tensor, "*batch qubits"]:
        """Measured expectations ``(..., n)``, differentiable once."""
        return self.circuit.expectations(inputs, self.weights)

    def measure(self, inputs: Tensor) -> Measurement:
        """Expectations with their standard errors."""
        return self.circuit.measure(inputs, self.weights)

    def extra_repr(self) -> str:
        return f"device={self.circuit.name!r}, shots={self.circuit.shots}"


def on_device(
    layer: QuantumLayer,
    device: str,
    *,
    shots: int | None,
    seed: int | None = None,
    depolarising: float = 0.0,
    **options: Any,
) -> DeviceLayer:
    """A layer with the same weights on a device; arguments and errors as of `DeviceCircuit`."""
    circuit = DeviceCircuit(
        layer.ansatz, device, shots=shots, seed=seed, depolarising=depolarising, **options
    )
    return DeviceLayer(layer.weights, circuit)


class _ParameterShift(torch.autograd.Function):
    """Expectations as a function of the angle of every RY gate."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, circuit: DeviceCircuit) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.circuit = circuit
        return circuit.run(angles)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (angles,) = ctx.saved_tensors
        steps = torch.eye(angles.shape[1:].numel(), dtype=angles.dtype).view(-1, *angles.shape[1:])
        shifts = torch.stack([steps, -steps]) * (pi / 2)  # (2, gates, columns, qubits)
        shifted = angles[:, None, None] + shifts
        measured = ctx.circuit.run(shifted.flatten(0, 2)).unflatten(0, shifted.shape[:3])
        jacobian = (measured[:, 0] - measured[:, 1]) / 2  # (circuits, gates, outputs)
        return torch.einsum("cgo,co->cg", jacobian, gradient).view_as(angles), None


def _check_shots(shots: object) -> None:
    allowed = f"an integer from 1 to {MAX_SHOTS}, or None for exact expectations"
    if shots is None:
        return
    if not isinstance(shots, int) or isinstance(shots, bool):
        raise TypeError(f"shots={shots!r} must be {allowed}")
    if not 1 <= shots <= MAX_SHOTS:
        raise ValueError(f"shots={shots!r} is out of range; allowed: {allowed}")


def _check_seed(seed: object) -> None:
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise ValueError(f"seed={seed!r} must be an integer of at least 0, or None")
