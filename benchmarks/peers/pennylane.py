"""PennyLane's default.qubit: a batch by broadcasting, gradients by backpropagation through torch.

A state prepared in single precision keeps it there; its own first state would be double.
"""

from __future__ import annotations

import pennylane as qml
import torch


def build(job):
    wires = range(job.n_qubits)
    inputs = torch.tensor(job.inputs, requires_grad=True)
    weights = torch.tensor(job.weights, requires_grad=True)
    cotangent = torch.tensor(job.cotangent)
    zero = torch.eye(1, 2**job.n_qubits, dtype=torch.complex64)[0]

    @qml.qnode(qml.device("default.qubit", wires=wires), interface="torch", diff_method="backprop")
    def circuit():
        qml.StatePrep(zero, wires=wires, validate_norm=False)
        qml.AngleEmbedding(inputs, wires=wires, rotation="Y")
        for layer in weights:
            for wire in wires:
                qml.RY(layer[wire], wires=wire)
            for wire in wires:
                qml.CNOT(wires=[wire, (wire + 1) % job.n_qubits])
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    def run():
        outputs = torch.stack(circuit(), dim=1)
        gradients = torch.autograd.grad(outputs, (inputs, weights), cotangent.to(outputs.dtype))
        return outputs.detach(), *gradients

    return run
