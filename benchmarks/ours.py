"""This project's layer in one of its engines; a program for ``worker``."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from quantum_hybrid import QuantumLayer


def build(job: SimpleNamespace, engine: str) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """One forward and backward pass."""
    layer = QuantumLayer(job.n_qubits, job.n_layers, engine=engine)
    layer.load_state_dict({"weights": torch.from_numpy(job.weights)})
    inputs = torch.from_numpy(job.inputs).requires_grad_()
    cotangent = torch.from_numpy(job.cotangent)

    def run() -> tuple[Tensor, Tensor, Tensor]:
        outputs = layer(inputs)
        by_inputs, by_weights = torch.autograd.grad(outputs, (inputs, layer.weights), cotangent)
        return outputs.detach(), by_inputs, by_weights

    # Numba compiles at the first call, as jax does for its peers before the clock runs.
    one = inputs.detach()[:1].requires_grad_()
    torch.autograd.grad(layer(one), (one, layer.weights), cotangent[:1])
    return run
