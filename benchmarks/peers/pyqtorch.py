"""pyqtorch in its automatic differentiation mode: its adjoint mode is wrong for the ring.

Version 1.7.8's ADJOINT gives wrong gradients for a CNOT whose control is above its target.
"""

from __future__ import annotations

import pyqtorch as pyq
import torch


def build(job):
    n = job.n_qubits
    inputs = torch.tensor(job.inputs, requires_grad=True)
    weights = torch.tensor(job.weights, requires_grad=True)
    cotangent = torch.tensor(job.cotangent)
    gates = [pyq.RY(wire, f"x{wire}") for wire in range(n)]
    for layer in range(job.n_layers):
        gates += [pyq.RY(wire, f"t{layer}_{wire}") for wire in range(n)]
        gates += [pyq.CNOT(wire, (wire + 1) % n) for wire in range(n)]
    circuit = pyq.QuantumCircuit(n, gates).to(dtype=torch.complex64)
    readouts = [pyq.Observable(pyq.Z(wire)).to(dtype=torch.complex64) for wire in range(n)]

    def run():
        values = {f"x{wire}": inputs[:, wire] for wire in range(n)}
        for layer in range(job.n_layers):
            values |= {f"t{layer}_{wire}": weights[layer, wire] for wire in range(n)}
        state = pyq.run(circuit, circuit.init_state(len(inputs)), values)
        outputs = torch.stack([readout.expectation(state) for readout in readouts], dim=1)
        return outputs.detach(), *torch.autograd.grad(outputs, (inputs, weights), cotangent)

    return run
