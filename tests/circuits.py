"""Random angles for circuits, and an engine's outputs and gradients for them; a test helper."""

import torch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
ENTANGLERS = ["ring", "chain", "none"]


def draw_angles(ansatz, batch, dtype, largest=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, ansatz.n_qubits), (ansatz.n_layers, ansatz.n_qubits)
    inputs, weights = (
        (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * largest
        for shape in shapes
    )
    return inputs.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_()


def values_and_gradients(engine, ansatz, inputs, weights):
    outputs = engine.expectations(ansatz, inputs, weights)
    cotangent = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs) + 0.3
    return outputs.detach(), *torch.autograd.grad(outputs, (inputs, weights), cotangent)
