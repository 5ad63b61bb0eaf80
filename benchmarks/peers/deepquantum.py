"""DeepQuantum: encoded data by the batch, weights as the circuit's own, gradients through torch."""

from __future__ import annotations

import deepquantum as dq
import torch


def build(job):
    n = job.n_qubits
    inputs = torch.tensor(job.inputs, requires_grad=True)
    cotangent = torch.tensor(job.cotangent)
    circuit = dq.QubitCircuit(n)
    circuit.rylayer(encode=True)
    for _ in range(job.n_layers):
        circuit.rylayer()
        circuit.cnot_ring()
    for wire in range(n):
        circuit.observable(wire)
    weights = list(circuit.parameters())  # one scalar a gate, in order
    with torch.no_grad():
        for weight, value in zip(weights, job.weights.flat, strict=True):
            weight.fill_(float(value))

    def run():
        circuit(data=inputs)
        outputs = circuit.expectation()
        by_inputs, *by_weights = torch.autograd.grad(outputs, (inputs, *weights), cotangent)
        return outputs.detach(), by_inputs, torch.stack(by_weights).view(job.weights.shape)

    return run
