"""PennyLane's lightning.qubit: its C++ adjoint method, one circuit a sample."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import torch


def build(job):
    wires = range(job.n_qubits)
    inputs = torch.tensor(job.inputs, requires_grad=True)
    weights = torch.tensor(job.weights, requires_grad=True)
    cotangent = torch.tensor(job.cotangent)
    device = qml.device("lightning.qubit", wires=wires, c_dtype=np.complex64)

    @qml.qnode(device, interface="torch", diff_method="adjoint", device_vjp=True)
    def circuit():
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
