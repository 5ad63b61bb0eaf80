"""Against derivatives whose variance is known, and lines that are known."""

import math
import re

import pytest
import torch

from quantum_hybrid.circuit import Ansatz, QuantumLayer
from quantum_hybrid.circuit.analysis import gradient_variance
from quantum_hybrid.circuit.analysis.gradient_variance import (
    fit_plateau,
    gradient_variances,
    mean_variance,
)
from quantum_hybrid.circuit.analysis.random_circuit import draw_angles


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n_qubits", "n_layers"), [(1, 1), (3, 2), (6, 3)])
def test_without_entangler_half_and_no_plateau(n_qubits, n_layers):
    """Output i is cos of the sum of qubit i's angles: its derivative is minus the sine of it."""
    variances = gradient_variances(Ansatz(n_qubits, n_layers, "none"), generator(), 4000)
    expected = 0.5 * torch.eye(n_qubits)[:, None].expand(-1, n_layers, -1).double()
    torch.testing.assert_close(variances, expected, rtol=0, atol=0.04)
    assert mean_variance(variances) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("entangler", ["ring", "chain"])
def test_one_layer_has_a_power_of_two_a_factor(entangler):
    """Each output is the product of the cosines of its k qubits, so each variance is 2**-k."""
    ansatz = Ansatz(4, 1, entangler)
    variances = gradient_variances(ansatz, generator(), 20_000)
    for row, qubits in zip(variances[:, 0], ansatz.readout, strict=True):
        expected = torch.zeros(4, dtype=torch.float64)
        expected[list(qubits)] = 2.0 ** -len(qubits)
        torch.testing.assert_close(row, expected, rtol=0.1, atol=1e-20)


def test_is_the_mean_square_of_the_layers_own_gradient():
    ansatz = Ansatz(3, 2)
    angles = draw_angles(ansatz, 5, generator(3))
    squares = torch.zeros(3, 2, 3, dtype=torch.float64)
    layer = QuantumLayer(3, 2, engine="statevector", dtype=torch.float64)
    for weights in angles:
        with torch.no_grad():
            layer.weights.copy_(weights)
        outputs = layer(torch.zeros(3, dtype=torch.float64))
        for i, output in enumerate(outputs):
            gradient = torch.autograd.grad(output, layer.weights, retain_graph=True)[0]
            squares[i] += gradient.square()
    got = gradient_variances(ansatz, generator(3), 5)
    torch.testing.assert_close(got, squares / 5, rtol=0, atol=1e-12)


def test_chunks_change_nothing_but_the_draw(monkeypatch):
    ansatz = Ansatz(3, 2)
    whole = gradient_variances(ansatz, generator(), 9)
    monkeypatch.setattr(gradient_variance.statevector, "GRAPH_BYTES", 4 * 12 * 8 * 8)
    torch.testing.assert_close(gradient_variances(ansatz, generator(), 9), whole)


def test_works_where_gradients_are_off():
    with torch.no_grad():
        assert gradient_variances(Ansatz(2, 1), generator(), 5).sum() > 0


def test_a_deep_ring_has_a_plateau_and_no_entangler_has_none():
    sizes = [2, 3, 4, 5, 6]
    slopes = {}
    for entangler in ("ring", "none"):
        means = [
            mean_variance(gradient_variances(Ansatz(n, 2 * n, entangler), generator(), 300))
            for n in sizes
        ]
        slopes[entangler] = fit_plateau(sizes, means)
    assert slopes["none"].slope == pytest.approx(0, abs=0.05)
    # A 2-design of real states halves the variance with each qubit.
    assert slopes["ring"].slope == pytest.approx(-math.log(2), abs=0.25)


def test_mean_variance_leaves_out_what_cannot_move_an_output():
    variances = torch.tensor([[[0.5, 1e-33]], [[0.0, 0.3]]], dtype=torch.float64)
    assert mean_variance(variances) == pytest.approx(0.4)


def test_fit_of_an_exact_line():
    fit = fit_plateau([2, 4, 6, 8], [3 * math.exp(-0.7 * n) for n in (2, 4, 6, 8)])
    assert fit.slope == pytest.approx(-0.7)
    assert fit.standard_error == pytest.approx(0, abs=1e-12)
    assert math.exp(fit.intercept) == pytest.approx(3)


def test_fit_and_its_standard_error_by_hand():
    """ln y = 0, 1, 0 at 1, 2, 3: slope 0, residuals -1/3, 2/3, -1/3, error sqrt(2/3 / 1 / 2)."""
    fit = fit_plateau([1, 2, 3], [1.0, math.e, 1.0])
    assert fit.slope == pytest.approx(0, abs=1e-12)
    assert fit.standard_error == pytest.approx(math.sqrt(1 / 3))
    assert fit.intercept == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("n_qubits", "variances", "message"),
    [
        (
            [2, 3],
            [0.1, 0.1],
            "n_qubits=[2, 3] and 2 variances do not determine a line; allowed: at least 3",
        ),
        ([2, 3, 4], [0.1, 0.1], "n_qubits=[2, 3, 4] and 2 variances do not determine a line"),
        ([2, 2, 2], [0.1, 0.1, 0.1], "n_qubits=[2, 2, 2] and 3 variances do not determine a line"),
        ([2, 3, 4], [0.1, 0.0, 0.1], "variances=[0.1, 0.0, 0.1] is out of range"),
        ([2, 3, 4], [0.1, math.nan, 0.1], "variances=[0.1, nan, 0.1] is out of range"),
    ],
)
def test_refuses_what_is_no_line(n_qubits, variances, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_plateau(n_qubits, variances)


def test_refuses_too_few_samples():
    with pytest.raises(ValueError, match="n_samples=1 is out of range"):
        gradient_variances(Ansatz(2, 1), generator(), 1)
