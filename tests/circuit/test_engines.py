"""All engines give the same values and the same gradients; PennyLane is the reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import TOLERANCE, values_and_gradients
from quantum_hybrid.circuit import Ansatz, dense, native, pennylane, statevector, tensor_network

TORCH_ENGINES = [dense, statevector]
FAST_ENGINES = [native, *TORCH_ENGINES]

ansatze = st.builds(
    Ansatz,
    n_qubits=st.integers(1, 6),
    n_layers=st.integers(1, 4),
    entangler=st.sampled_from(["ring", "chain", "none"]),
    reupload=st.booleans(),
)


def draw_angles(ansatz, batch, dtype, seed):
    """Inputs and weights well beyond pi, and two of them at the angle where a tangent blows up."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 8 * torch.rand(batch, ansatz.n_qubits, generator=generator, dtype=torch.float64) - 4
    weights = (
        8 * torch.rand(ansatz.n_layers, ansatz.n_qubits, generator=generator, dtype=torch.float64)
        - 4
    )
    inputs[0, 0] = torch.pi
    weights[-1, -1] = torch.pi
    return inputs.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_()


def assert_same(got, expected):
    for one, other in zip(got, expected, strict=True):
        tolerance = TOLERANCE[one.dtype]
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def can_run(engine, ansatz):
    """Dense has no matrix to share when it re-uploads, native encodes once."""
    return engine not in (dense, native) or not ansatz.reupload


@pytest.mark.parametrize("dtype", TOLERANCE)
@given(ansatz=ansatze, batch=st.integers(1, 5), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_agree_with_pennylane(dtype, ansatz, batch, seed):
    inputs, weights = draw_angles(ansatz, batch, dtype, seed)
    expected = values_and_gradients(pennylane, ansatz, inputs, weights)
    for engine in FAST_ENGINES:
        if can_run(engine, ansatz):
            assert_same(values_and_gradients(engine, ansatz, inputs, weights), expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("entangler", ["ring", "chain"])
@pytest.mark.parametrize("n_qubits", [8, 9, 10])
def test_dense_agrees_with_statevector_up_to_its_limit(n_qubits, entangler, dtype):
    ansatz = Ansatz(n_qubits, 3, entangler)
    inputs, weights = draw_angles(ansatz, 3, dtype, seed=n_qubits)
    expected = values_and_gradients(statevector, ansatz, inputs, weights)
    assert_same(values_and_gradients(dense, ansatz, inputs, weights), expected)


@pytest.mark.parametrize(
    ("engine", "reupload"),
    [
        (native, False),
        (dense, False),
        (statevector, False),
        (statevector, True),
        (tensor_network, False),
        (tensor_network, True),
        (pennylane, True),
    ],
)
def test_gradient_is_the_parameter_shift(engine, reupload):
    """d/dt <Z> = (<Z>(t + pi/2) - <Z>(t - pi/2)) / 2 for a rotation that occurs once
    (Schuld et al. 2019, arXiv:1811.11184)."""
    ansatz = Ansatz(3, 2, reupload=reupload)
    inputs, weights = draw_angles(ansatz, 2, torch.float64, seed=3)
    _, _, gradient = values_and_gradients(engine, ansatz, inputs, weights)
    cotangent = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3) + 0.3
    for index in range(weights.numel()):
        step = torch.zeros(weights.numel(), dtype=torch.float64)
        step[index] = torch.pi / 2
        step = step.view_as(weights)
        with torch.no_grad():
            up = engine.expectations(ansatz, inputs, weights + step)
            down = engine.expectations(ansatz, inputs, weights - step)
        shifted = (cotangent * (up - down)).sum() / 2
        torch.testing.assert_close(gradient.flatten()[index], shifted, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("engine", "ansatz"),
    [
        (dense, Ansatz(3, 3)),
        (dense, Ansatz(3, 3, "chain")),
        (statevector, Ansatz(1, 1)),
        (statevector, Ansatz(3, 3)),
        (statevector, Ansatz(3, 2, reupload=True)),
    ],
)
def test_first_and_second_derivatives(monkeypatch, engine, ansatz):
    monkeypatch.setattr(statevector, "BLOCK_QUBITS", 2)  # or three qubits were one block
    angles = draw_angles(ansatz, 2, torch.float64, seed=5)

    def run(inputs, weights):
        return engine.expectations(ansatz, inputs, weights)

    assert torch.autograd.gradcheck(run, angles)
    assert torch.autograd.gradgradcheck(run, angles)


@given(ansatz=ansatze, batch=st.integers(1, 5), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_state_has_norm_1_and_gives_the_expectations(ansatz, batch, seed):
    inputs, weights = draw_angles(ansatz, batch, torch.float64, seed)
    for engine in TORCH_ENGINES:
        if can_run(engine, ansatz):
            state = engine.final_state(ansatz, inputs, weights)
            norm = torch.linalg.vector_norm(state, dim=1)
            torch.testing.assert_close(norm, torch.ones_like(norm), rtol=0, atol=1e-12)
            assert_same(
                [statevector.expectations_z(state)], [engine.expectations(ansatz, inputs, weights)]
            )


def test_layers_matrix_is_orthogonal():
    ansatz = Ansatz(6, 4)
    _, weights = draw_angles(ansatz, 1, torch.float64, seed=7)
    matrix = dense.layers_matrix(ansatz, weights)
    identity = torch.eye(64, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, identity, rtol=0, atol=1e-12)


def test_rotations_of_a_product_state_add():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    expected = statevector.product_state(first + second)
    per_sample = statevector.apply_rotations(statevector.product_state(first), second)
    torch.testing.assert_close(per_sample, expected)
    shared = statevector.apply_rotations(statevector.product_state(first), second[0])
    torch.testing.assert_close(shared, statevector.product_state(first + second[0]))


def test_entangler_inverse():
    ansatz = Ansatz(5, 1)
    state = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    entangled = statevector.apply_entangler(ansatz, state)
    assert not torch.equal(entangled, state)
    assert torch.equal(statevector.apply_entangler(ansatz, entangled, inverse=True), state)


@pytest.mark.parametrize(
    ("engine", "reupload"), [(statevector, False), (statevector, True), (dense, False)]
)
def test_chunks_change_nothing(monkeypatch, engine, reupload):
    """A batch whose graph is too large is recomputed chunk by chunk, with the same result."""
    ansatz = Ansatz(6, 3, reupload=reupload)
    inputs, weights = draw_angles(ansatz, 7, torch.float64, seed=11)
    expected = values_and_gradients(engine, ansatz, inputs, weights)
    state = engine.final_state(ansatz, inputs, weights)
    chunks = []
    product_state = statevector.product_state
    monkeypatch.setattr(statevector, "GRAPH_BYTES", 0)
    monkeypatch.setattr(statevector, "CHUNK_BYTES", 3 * 64 * 8)

    def counted(angles):
        if angles.shape[1] == ansatz.n_qubits:
            chunks.append(len(angles))
        return product_state(angles)

    monkeypatch.setattr(statevector, "product_state", counted)
    assert_same(values_and_gradients(engine, ansatz, inputs, weights), expected)
    assert sorted(chunks) == sorted(2 * [3, 3, 1])  # each once forward, once backward
    assert_same([engine.final_state(ansatz, inputs, weights)], [state])
    with torch.no_grad():
        assert_same([engine.expectations(ansatz, inputs, weights)], expected[:1])


def test_sixteen_qubits():
    """Four blocks of four qubits, against PennyLane on one of the samples; float32 keeps up."""
    ansatz = Ansatz(16, 5)
    inputs, weights = draw_angles(ansatz, 4, torch.float64, seed=13)
    with torch.no_grad():
        outputs = statevector.expectations(ansatz, inputs, weights)
        reference = pennylane.expectations(ansatz, inputs[:1], weights)
    assert_same([outputs[:1]], [reference])
    single = statevector.expectations(ansatz, inputs.float(), weights.float())
    torch.testing.assert_close(single.double(), outputs, rtol=0, atol=TOLERANCE[torch.float32])


def test_a_batch_that_pennylane_cannot_hold_is_refused():
    """Before anything is allocated; without gradients less is kept, and more may be asked for."""
    ansatz = Ansatz(20, 3)
    inputs, weights = torch.zeros(100, 20), torch.zeros(3, 20, requires_grad=True)
    message = r"inputs of 100 samples .* keeps 219 GiB of states, allowed: 8; use engine='statev"
    with pytest.raises(ValueError, match=message):
        pennylane.expectations(ansatz, inputs, weights)
    with torch.no_grad(), pytest.raises(ValueError, match=r"1000 samples .* keeps 62.5 GiB"):
        pennylane.expectations(ansatz, inputs.repeat(10, 1), weights)


def test_index_made_in_inference_mode_serves_training():
    ansatz = Ansatz(4, 7)  # of no other test, so that no cache knows it
    inputs, weights = draw_angles(ansatz, 2, torch.float32, seed=17)
    with torch.inference_mode():
        statevector.expectations(ansatz, inputs, weights)
    values_and_gradients(statevector, ansatz, inputs, weights)
