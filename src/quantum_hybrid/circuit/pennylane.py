"""The circuit as PennyLane runs it: the reference for every other engine, and slow.

The only module that imports PennyLane, and it is imported only when this engine is asked for. It
runs ``default.qubit`` with the batch as parameter broadcasting and gradients by backpropagation
(Bergholm et al. 2018, arXiv:1811.04968), always in double precision; only the outputs are cast
back to the dtype of the inputs.
"""

from functools import lru_cache

import pennylane as qml
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit.ansatz import Ansatz

MAX_QUBITS = 20


def check(ansatz: Ansatz) -> None:
    """Refuse what would not fit, before anything is allocated."""
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
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    if len(inputs) == 0:  # PennyLane cannot broadcast over nothing; keep the graph whole.
        return inputs + weights[0]
    outputs = _qnode(ansatz)(inputs.double(), weights.double())
    return torch.stack(outputs, dim=-1).to(inputs.dtype)


@lru_cache(maxsize=8)
def _qnode(ansatz: Ansatz) -> qml.QNode:
    wires = range(ansatz.n_qubits)

    @qml.qnode(qml.device("default.qubit", wires=wires), interface="torch", diff_method="backprop")
    def circuit(inputs: Tensor, weights: Tensor) -> list:
        # PennyLane's gates take torch tensors, though its annotations do not say so.
        for layer in range(ansatz.n_layers):
            if layer == 0 or ansatz.reupload:
                for wire in wires:
                    qml.RY(inputs[:, wire], wires=wire)  # pyright: ignore[reportArgumentType]
            for wire in wires:
                qml.RY(weights[layer, wire], wires=wire)  # pyright: ignore[reportArgumentType]
            for pair in ansatz.cnots:
                qml.CNOT(wires=pair)
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    return circuit
