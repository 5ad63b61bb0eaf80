"""TorchQuantum: a batch on one device, gradients through torch.

As installed it does not import: torchvision's compiled operators, which are not needed here, miss
CUDA's libraries, and have to be declared for it.
"""

from __future__ import annotations

import torch

_OPERATORS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchquantum as tq  # noqa: E402
import torchquantum.functional as tqf  # noqa: E402


def build(job):
    n = job.n_qubits
    inputs = torch.tensor(job.inputs, requires_grad=True)
    weights = torch.tensor(job.weights, requires_grad=True)
    cotangent = torch.tensor(job.cotangent)
    device = tq.QuantumDevice(n_wires=n, bsz=len(inputs))
    measure = tq.MeasureAll(tq.PauliZ)

    def run():
        device.reset_states(len(inputs))
        for wire in range(n):
            tqf.ry(device, wires=wire, params=inputs[:, wire])
        for layer in weights:
            for wire in range(n):
                tqf.ry(device, wires=wire, params=layer[wire])
            for wire in range(n):
                tqf.cnot(device, wires=[wire, (wire + 1) % n])
        outputs = measure(device)
        return outputs.detach(), *torch.autograd.grad(outputs, (inputs, weights), cotangent)

    return run
