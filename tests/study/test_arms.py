"""The table of arms: shapes, gradients, starts and counts."""

from __future__ import annotations

import pytest
import torch

from quantum_hybrid.circuit import QuantumLayer
from quantum_hybrid.student.head import ANGLE_SCALE
from quantum_hybrid.study.arms import ARMS, SUBJECT, Circuits, Fourier, Shape

SHAPE = Shape(n=4, n_layers=2)


def angles(n_rows: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(n_rows, SHAPE.n, generator=generator) - 0.5) * ANGLE_SCALE


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_maps_n_angles_to_n_numbers_of_its_seed(name) -> None:
    maps = [ARMS[name].build(SHAPE, seed) for seed in (0, 0, 1)]
    for built in maps:
        built.centre(angles())
    one, two, other = (built(angles()) for built in maps)
    assert one.shape == (6, SHAPE.n)
    assert torch.equal(one, two)
    drawn = name not in ("identity", "nothing", "affine", "mlp")  # These start as the identity.
    assert torch.equal(one, other) != drawn


@pytest.mark.parametrize("name", ARMS)
def test_exactly_the_arms_that_train_have_parameters_with_a_gradient(name) -> None:
    built = ARMS[name].build(SHAPE, 0)
    trained = [p for p in built.parameters() if p.requires_grad]
    assert bool(trained) == (ARMS[name].trains and name not in ("identity", "nothing"))
    x = angles().requires_grad_()
    (built(x) ** 2).sum().backward()
    for parameter in trained:
        assert parameter.grad is not None
        if name != "mlp":  # Its hidden layer gets one once `out` is not zero any more.
            assert parameter.grad.abs().sum() > 0


def test_the_subject_is_the_students_own_pair_of_circuits() -> None:
    built = ARMS[SUBJECT].build(SHAPE, 0)
    assert isinstance(built, Circuits)
    first, second = built.circuits
    expected = second(ANGLE_SCALE * first(angles()))
    assert torch.equal(built(angles()), expected)


def test_the_perceptron_has_the_circuits_number_of_weights_or_the_next_above() -> None:
    for shape in (SHAPE, Shape(8, 3), Shape(3, 5)):
        count = sum(p.numel() for p in ARMS["mlp"].build(shape, 0).parameters())
        assert shape.n_weights <= count < shape.n_weights + 2 * shape.n + 1


def test_the_polynomial_starts_as_its_circuit() -> None:
    polynomial, once = (ARMS[name].build(SHAPE, 3) for name in ("polynomial", "ring once"))
    for built in (polynomial, once):
        built.centre(angles())
    torch.testing.assert_close(polynomial(angles()), once(angles()))


def test_shuffled_rows_are_the_subjects_in_another_order() -> None:
    shuffled, subject = (ARMS[name].build(SHAPE, 3) for name in ("shuffled", SUBJECT))
    found, expected = shuffled(angles(200)), subject(angles(200))
    assert not torch.equal(found, expected)
    assert torch.equal(found.sort(0).values, expected.sort(0).values)


def test_fourier_features_have_the_circuits_frequencies() -> None:
    built = ARMS["fourier"].build(SHAPE, 0)
    assert isinstance(built, Fourier)
    assert set(built.frequencies.unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("name", ARMS)
def test_multiply_adds_are_counted(name) -> None:
    few, many = (ARMS[name].build(shape, 0).multiply_adds for shape in (SHAPE, Shape(8, 2)))
    assert (few > 0) == (name not in ("identity", "nothing"))
    assert many > few or few == 0


def test_multiply_adds_of_a_circuit_are_those_of_a_state_vector() -> None:
    """Two layers of four rotations of 16 amplitudes, and four Z, twice."""
    assert ARMS[SUBJECT].build(SHAPE, 0).multiply_adds == 2 * (2 * 4 * 2 * 16 + 4 * 16)
    assert sum(isinstance(m, QuantumLayer) for m in ARMS[SUBJECT].build(SHAPE, 0).modules()) == 2


def test_without_cnots_each_qubit_has_a_state_of_its_own() -> None:
    """Two amplitudes, at any number of qubits."""
    for n in (4, 64):
        built = ARMS["no entangler"].build(Shape(n, 2), 0)
        assert built.multiply_adds == 2 * n * (2 * 2 * 2 + 2)
