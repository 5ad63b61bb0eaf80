"""The initial weights of a new head."""

from __future__ import annotations

import math

import pytest
import torch

from quantum_hybrid.backbone import load_base_model
from quantum_hybrid.errors import UsageError
from quantum_hybrid.student import Calibration, HybridForCausalLM, initialise_head
from quantum_hybrid.student.head import ANGLE_SCALE
from quantum_hybrid.student.initialisation import PREACTIVATION_STD

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture(scope="module")
def base(small_llama):
    return load_base_model(str(small_llama), str(small_llama))


def calibration(base, rows: int = 200) -> Calibration:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(1, 512, (1, rows), generator=generator)
    with torch.no_grad():
        hidden = base.body(input_ids=tokens).last_hidden_state[0]
        return Calibration(hidden, base.norm(hidden))


def base_probabilities(base) -> torch.Tensor:
    """The base model's predictions at the calibration rows."""
    with torch.no_grad():
        return base.decoder(base.norm(calibration(base).hidden)).double().softmax(-1)


@pytest.fixture
def new_student(base):
    def build(seed: int = 0, **circuits) -> HybridForCausalLM:
        student = HybridForCausalLM.from_base(base, **circuits)
        initialise_head(student.head, calibration(base), seed)
        return student

    return build


@pytest.mark.parametrize("mixing", ["logits", "probability"])
def test_the_classical_pathway_starts_as_the_base_model(base, new_student, mixing) -> None:
    student = new_student(mixing=mixing)
    with torch.no_grad():
        expected = base.decoder(base.norm(base.body(input_ids=TOKENS).last_hidden_state))
        classical = student.head(student.hidden_states(TOKENS)).classical
    assert torch.equal(classical, expected)
    assert student.head.alpha.item() == 0.5


def test_a_head_is_a_function_of_its_seed_alone(new_student) -> None:
    torch.manual_seed(1)
    one = new_student(seed=4).head.state_dict()
    torch.manual_seed(2)
    same, other = new_student(seed=4).head.state_dict(), new_student(seed=5).head.state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    drawn = {"classical.transform.into.weight", "quantum.circuit1.weights"}
    assert drawn <= differing
    assert not any(name.startswith(("classical.decoder", "quantum.down")) for name in differing)


@pytest.mark.parametrize(("n_qubits", "cosines"), [(1, 1), (4, 7 / 4), (8, 4)])
def test_encoding_angles_are_centred_where_a_product_of_cosines_is_steepest(
    base, new_student, n_qubits, cosines
) -> None:
    """The rotations of layer 0 add to the encoding angles of a circuit."""
    quantum = new_student(n_qubits=n_qubits).head.quantum
    with torch.no_grad():
        first = quantum.angles(base.norm(calibration(base).hidden))
        second = ANGLE_SCALE * quantum.circuit1(first)
    grid = torch.linspace(0, math.pi / 2, 100_001, dtype=torch.float64)
    steepest = grid[(grid.sin() * grid.cos() ** (cosines - 1)).argmax()].item()
    for circuit, angles in ((quantum.circuit1, first), (quantum.circuit2, second)):
        centre = (angles + circuit.weights[0].detach()).mean(0)
        torch.testing.assert_close(centre, torch.full((n_qubits,), steepest), rtol=0, atol=1e-4)
        assert circuit.weights[1:].abs().max() < 0.6


def test_the_first_preactivations_are_uncorrelated_and_of_the_chosen_size(
    base, new_student
) -> None:
    quantum = new_student().head.quantum
    with torch.no_grad():
        down = quantum.down(base.norm(calibration(base).hidden)).double()
    covariance = torch.cov(down.T, correction=0)
    expected = PREACTIVATION_STD**2 * torch.eye(8).double()
    torch.testing.assert_close(covariance, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(down.mean(0), torch.zeros(8).double(), rtol=0, atol=1e-5)


def test_the_first_direction_moves_the_prediction_most(base, new_student) -> None:
    """In the Fisher metric: the variance of w . (g - mean) over tokens w drawn from p."""
    quantum = new_student().head.quantum
    with torch.no_grad():
        g = base.norm(calibration(base).hidden).double()
        projection = base.decoder.weight.double() @ (g - g.mean(0)).T
        p = base_probabilities(base).mean(0)[:, None]
        spread = projection - (p * projection).sum(0)
        whole = (p * spread.square()).sum()
        kept = []
        for n in (1, 4, 8):
            z = torch.cat([quantum.down(g.float())[:, :n].double(), torch.ones(len(g), 1)], 1)
            fitted = z @ torch.linalg.lstsq(z, spread.T).solution
            kept.append(((p.T * (spread.T - fitted).square()).sum() / whole).item())
        # The best that any n linear functions of g can do, from the singular values.
        singular = torch.linalg.svdvals(p.sqrt() * spread).square()
        best = [(singular[n:].sum() / singular.sum()).item() for n in (1, 4, 8)]
    assert kept == pytest.approx(best, rel=1e-3)


def test_the_quantum_pathway_is_worth_something_from_the_first_step(base, new_student) -> None:
    """Not worse than the base model's mean prediction, and not constant, so gradients exist.

    Cross-entropy with the base model's predictions, in nats per token.
    """
    p = base_probabilities(base)
    with torch.no_grad():
        quantum = new_student().head(calibration(base).hidden).quantum.double()
    loss = -float((p * quantum.log_softmax(-1)).sum(-1).mean())
    mean_prediction = float(torch.special.entr(p.mean(0)).sum())
    assert loss < mean_prediction + 0.05
    assert quantum.std(0).max() > 1e-3


def test_rows_that_span_too_little_are_an_error(base, new_student) -> None:
    head = new_student().head
    with pytest.raises(UsageError, match=r"`n_qubits` 8: 1 hidden states of this backbone"):
        initialise_head(head, calibration(base, rows=1), 0)
