"""Weights to start from: what the outputs then are, and that they do not vanish with n."""

import math

import pytest
import torch

from quantum_hybrid.circuit import Ansatz, QuantumLayer, statevector
from quantum_hybrid.circuit.initialisation import starting_angles, turned_layer


@pytest.mark.parametrize(
    ("entangler", "qubits"),
    [
        ("ring", [{0}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {1}]),
        ("chain", [{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {0}]),
        ("none", [{0}, {1}, {2}, {3}, {4}, {5}]),
    ],
)
def test_two_layers_leave_two_sines(entangler, qubits):
    """Exactly, at the angles themselves."""
    ansatz = Ansatz(6, 2, entangler)
    angles = starting_angles(ansatz, "local")
    inputs = torch.linspace(-1, 2, 18, dtype=torch.float64).view(3, 6)
    sines = (inputs + angles[0]).sin()
    expected = torch.stack([sines[:, sorted(those)].prod(1) for those in qubits], dim=1)
    outputs = statevector.expectations(ansatz, inputs, angles)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("entangler", ["ring", "chain", "none"])
@pytest.mark.parametrize("n_layers", [2, 3, 4, 5])
def test_outputs_are_products_of_equal_sines_at_inputs_of_zero(n_layers, entangler):
    ansatz = Ansatz(7, n_layers, entangler)
    angles = starting_angles(ansatz, "local")
    _, factors = turned_layer(ansatz)
    assert sum(factors) / len(factors) <= 4
    assert angles[0, 0] == pytest.approx(math.atan(math.sqrt(sum(factors) / 7 - 1)))
    outputs = statevector.expectations(ansatz, torch.zeros(1, 7, dtype=torch.float64), angles)
    expected = angles[0, 0].sin() ** torch.tensor([factors])
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


def rms_at_100_qubits(n_layers, init):
    """Of outputs and of the gradients of a random combination of them by inputs and weights."""
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": torch.float64, "generator": generator, "init": init}
    layer = QuantumLayer(100, n_layers, **options)
    inputs = 0.8 * torch.randn(16, 100, generator=generator, dtype=torch.float64)
    outputs = layer(inputs.requires_grad_())
    signs = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(outputs, (inputs, layer.weights), signs)
    return [x.square().mean().sqrt().item() for x in (outputs, *gradients)]


@pytest.mark.parametrize("n_layers", [2, 3, 4])
def test_local_keeps_a_hundred_qubits_from_vanishing(n_layers):
    assert min(rms_at_100_qubits(n_layers, "local")) > 0.1
    assert rms_at_100_qubits(n_layers, "identity")[0] < 0.005


def test_identity_is_zero():
    assert not starting_angles(Ansatz(5, 3), "identity").any()


def test_a_layer_is_drawn_around_its_starting_angles():
    layer = QuantumLayer(100, 3, init="local", init_std=0.0, dtype=torch.float64)
    assert torch.equal(layer.weights, starting_angles(layer.ansatz, "local"))
    assert "init='local'" in repr(layer)
