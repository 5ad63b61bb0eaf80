"""The circuit in PennyLane: the reference engine, and circuits on any PennyLane device.

This is the only module that imports PennyLane (Bergholm et al. 2018, arXiv:1811.04968), and it is
imported only if used. The engine, `expectations`, runs ``default.qubit`` with parameter
broadcasting over the batch and gradients by backpropagation, in double precision; outputs are cast
to the dtype of the inputs. It is slow.

The other functions open a device by its PennyLane name and run a list of circuits on it, without
gradients, for ``circuit.device``.
"""

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import pennylane as qml
import torch
from jaxtyping import Float
from pennylane.devices import Device, LegacyDeviceFacade
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from torch import Tensor

from quantum_hybrid.circuit.ansatz import Ansatz

MAX_QUBITS = 20
MAX_BATCH_BYTES = 8 * 2**30
"""Largest size of the states of a batch."""
STATES_WITHOUT_GRADIENT = 4
"""States of a sample in memory at a time if no gradient is needed."""

LARGEST_STATES = {
    "default.mixed": 12,
    "default.qubit": 24,
    "lightning.qubit": 24,
    "qiskit.basicsim": 24,
    "qulacs.simulator": 24,
    "reference.qubit": 24,
}
"""Most qubits for which these simulators need at most about 1 GiB; they allocate without a limit of
their own. Other devices refuse by themselves."""

_PLUGINS = {
    "braket": "amazon-braket-pennylane-plugin",
    "cirq": "pennylane-cirq",
    "ionq": "pennylane-ionq",
    "qiskit": "quantum-hybrid-lm[devices]",
    "qulacs": "quantum-hybrid-lm[devices]",
}
"""The package to install for the devices of a family."""


def check(ansatz: Ansatz) -> None:
    """Refuse a circuit that does not fit, before anything is allocated.

    Raises:
        ValueError: there are too many qubits.
    """
    if ansatz.n_qubits > MAX_QUBITS:
        size_mib = 2.0 ** (ansatz.n_qubits + 4 - 20)
        raise ValueError(
            f"n_qubits={ansatz.n_qubits} is too large for engine='pennylane': each gate keeps a "
            f"state of {size_mib:.4g} MiB per sample; allowed: 1 to {MAX_QUBITS}; use "
            "engine='statevector'"
        )


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1].

    Raises:
        ValueError: the states of the batch do not fit.
    """
    if len(inputs) == 0:  # PennyLane cannot broadcast over an empty batch; this keeps the graph
        return inputs + weights[0]
    _check_batch(ansatz, len(inputs), inputs.requires_grad or weights.requires_grad)
    return _untraced(ansatz, inputs.double(), weights.double()).to(inputs.dtype)


def _check_batch(ansatz: Ansatz, batch: int, differentiable: bool) -> None:
    n_states = STATES_WITHOUT_GRADIENT
    if differentiable and torch.is_grad_enabled():
        n_encodings = ansatz.n_layers if ansatz.reupload else 1
        n_states = ansatz.n_qubits * (n_encodings + ansatz.n_layers)
        n_states += len(ansatz.cnots) * ansatz.n_layers
    size = batch * n_states * 2 ** (ansatz.n_qubits + 4)
    if size > MAX_BATCH_BYTES:
        raise ValueError(
            f"inputs of {batch} samples are too many for engine='pennylane' at n_qubits="
            f"{ansatz.n_qubits}: it keeps {size / 2**30:.3g} GiB of states, allowed: "
            f"{MAX_BATCH_BYTES / 2**30:.0f}; use engine='statevector'"
        )


def _evaluate(ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    return torch.stack(_qnode(ansatz)(inputs, weights), dim=-1)


_untraced: Any = torch.compiler.disable(_evaluate)
"""torch.compile cannot trace PennyLane and leaves this out of its graph."""


@lru_cache(maxsize=8)
def _qnode(ansatz: Ansatz) -> qml.QNode:
    wires = range(ansatz.n_qubits)

    @qml.qnode(qml.device("default.qubit", wires=wires), interface="torch", diff_method="backprop")
    def circuit(inputs: Tensor, weights: Tensor) -> list:
        for _ in _gates(ansatz, rotation_columns(ansatz, inputs.mT, weights)):
            pass  # making a gate within a QNode queues it
        return _measurements(ansatz)

    return circuit


def rotation_columns(ansatz: Ansatz, inputs: Any, weights: Any) -> list[Any]:
    """The angles of the columns of RY gates, in the order in which they act."""
    columns = []
    for layer in range(ansatz.n_layers):
        if layer == 0 or ansatz.reupload:
            columns.append(inputs)
        columns.append(weights[layer])
    return columns


def _gates(ansatz: Ansatz, columns: Iterable[Any]) -> Iterator[Operator]:
    """The gates of one circuit, in order; a column holds one angle for each qubit."""
    columns = iter(columns)
    for layer in range(ansatz.n_layers):
        for _ in range(2 if layer == 0 or ansatz.reupload else 1):
            for wire, angle in enumerate(next(columns)):
                yield qml.RY(angle, wires=wire)
        for pair in ansatz.cnots:
            yield qml.CNOT(wires=pair)


def _measurements(ansatz: Ansatz) -> list:
    return [qml.expval(qml.PauliZ(wire)) for wire in range(ansatz.n_qubits)]


def seed_option(name: str) -> str | None:
    """The name of a device's option for the seed of its shots; None if it has none."""
    if name == "qiskit.aer":
        return "seed_simulator"
    return "seed" if "seed" in inspect.signature(_plugin(name)).parameters else None


def open_device(name: str, n_qubits: int, options: Mapping[str, Any]) -> Device:
    """A device with a wire for each qubit.

    Raises:
        ValueError: the device is unknown, not installed, too small, or refuses its options.
    """
    _plugin(name)
    largest = LARGEST_STATES.get(name)
    if largest is not None and n_qubits > largest:
        raise ValueError(
            f"n_qubits={n_qubits} is too large for device={name!r}; allowed: 1 to {largest}"
        )
    with _one_line(name):
        return qml.device(name, wires=n_qubits, **options)


def probe(
    name: str, device: Device, ansatz: Ansatz, shots: int | None, depolarising: float
) -> None:
    """Raise a ValueError if the device cannot run such circuits, without running one."""
    column = [0.0] * ansatz.n_qubits
    columns = rotation_columns(ansatz, column, [column] * ansatz.n_layers)
    with _one_line(name):
        circuits = [_circuit(ansatz, columns, shots, depolarising)]
        circuits, _ = device.preprocess_transforms()(circuits)
        if isinstance(device, LegacyDeviceFacade):
            for circuit in circuits:
                device.target_device.check_validity(circuit.operations, circuit.observables)


def run(
    name: str,
    device: Device,
    ansatz: Ansatz,
    angles: Float[Tensor, "circuits columns qubits"],
    shots: int | None,
    depolarising: float,
) -> Float[Tensor, "circuits qubits"]:
    """Expectations of a list of circuits, which the device gets all at once; float64."""
    circuits = [_circuit(ansatz, columns, shots, depolarising) for columns in angles.tolist()]
    with _one_line(name):
        # PennyLane's cache would give equal circuits the same shots.
        results = qml.execute(circuits, device, diff_method=None, cache=False)
    return torch.tensor(np.array(results, dtype=np.float64).reshape(len(angles), -1))


def _circuit(
    ansatz: Ansatz, columns: Sequence[Sequence[float]], shots: int | None, depolarising: float
) -> QuantumScript:
    gates = list(_gates(ansatz, columns))
    if depolarising:
        gates = [noisy for gate in gates for noisy in _with_noise(gate, depolarising)]
    return QuantumScript(gates, _measurements(ansatz), shots=shots)


def _with_noise(gate: Operator, p: float) -> list[Operator]:
    return [gate, *(qml.DepolarizingChannel(p, wires=wire) for wire in gate.wires)]


def _plugin(name: str) -> type:
    """The class behind a device's name."""
    if not isinstance(name, str):
        raise TypeError(f"device={name!r} must be the name of a PennyLane device")
    if name in qml.plugin_devices:
        with _one_line(name):
            return qml.plugin_devices[name].load()
    package = _PLUGINS.get(name.split(".")[0])
    if package is not None:
        raise ValueError(f"device={name!r} is not installed: pip install '{package}'")
    raise ValueError(
        f"device={name!r} is unknown; installed: {', '.join(sorted(qml.plugin_devices))}"
    )


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn an error of a device into a ValueError of one line that names the device."""
    try:
        with warnings.catch_warnings():
            # Qiskit's plugin only warns if it cannot compute without shots, and then takes 1024.
            warnings.filterwarnings("error", "The analytic calculation", UserWarning)
            # This warning precedes the error that names the gate a device does not support.
            warnings.filterwarnings("ignore", "Operator .* does not define a decomp", UserWarning)
            yield
    except UserWarning as warning:
        if not str(warning).startswith("The analytic calculation"):
            raise
        raise ValueError(f"shots=None: device={name!r} measures by shots; give a number") from None
    except (
        Exception
    ) as error:  # plugins and the libraries below them raise errors of their own classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"device={name!r}: {reason}") from error
