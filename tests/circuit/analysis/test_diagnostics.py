import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.circuit import (
    Ansatz,
    QuantumLayer,
    coherence,
    coherence_and_entanglement,
    meyer_wallach,
    statevector,
)
from quantum_hybrid.circuit.analysis import diagnostics, state_kernel


def basis_state(n_qubits, *indices):
    state = torch.zeros(1, 2**n_qubits, dtype=torch.float64)
    state[0, list(indices)] = len(indices) ** -0.5
    return state


def uniform(n_qubits):
    return basis_state(n_qubits, *range(2**n_qubits))


def ghz(n_qubits):
    return basis_state(n_qubits, 0, 2**n_qubits - 1)


def w_state(n_qubits):
    return basis_state(n_qubits, *(2**k for k in range(n_qubits)))


def bell_and_rest(n_qubits):
    """Qubits 0 and 1 maximally entangled, the others in |0>: two of n qubits are impure."""
    return basis_state(n_qubits, 0, 3 * 2 ** (n_qubits - 2))


@pytest.mark.parametrize(
    ("state", "expected_coherence", "expected_entanglement"),
    [
        (basis_state(3, 0), 0, 0),
        (basis_state(3, 5), 0, 0),
        (uniform(1), 1, 0),
        (uniform(5), 1, 0),
        (ghz(2), 1 / 2, 1),
        (ghz(5), 1 / 5, 1),
        (bell_and_rest(5), 1 / 5, 2 / 5),
        (w_state(4), 1 / 2, 3 / 4),
    ],
)
def test_known_states(state, expected_coherence, expected_entanglement):
    """W: each qubit has eigenvalues 1/n and (n-1)/n, so Q = 4 (n-1) / n^2 = 3/4 at n = 4."""
    expected = torch.tensor([expected_coherence, expected_entanglement], dtype=torch.float64)
    got = torch.cat([coherence(state), meyer_wallach(state)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@given(n_qubits=st.integers(1, 8), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_product_states_are_not_entangled(n_qubits, seed):
    generator = torch.Generator().manual_seed(seed)
    angles = 8 * torch.rand(4, n_qubits, generator=generator, dtype=torch.float64) - 4
    state = statevector.product_state(angles)
    torch.testing.assert_close(meyer_wallach(state), torch.zeros(4).double(), rtol=0, atol=1e-12)
    # Entropies of independent bits add.
    p = (angles / 2).cos().square()
    bits = -(p * p.log2() + (1 - p) * (1 - p).log2()).mean(1)
    torch.testing.assert_close(coherence(state), bits)


@given(n_qubits=st.integers(2, 7), batch=st.integers(1, 4), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_against_density_matrices(n_qubits, batch, seed):
    """Meyer-Wallach from reduced density matrices, one sample and one qubit at a time."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(batch, 2**n_qubits, generator=generator, dtype=torch.float64)
    state = state / torch.linalg.vector_norm(state, dim=1, keepdim=True)
    for sample, got in zip(state, meyer_wallach(state), strict=True):
        tensor = sample.view([2] * n_qubits)
        purities = []
        for qubit in range(n_qubits):
            rest = tensor.movedim(qubit, 0).reshape(2, -1)
            purities.append(torch.trace(torch.linalg.matrix_power(rest @ rest.T, 2)))
        torch.testing.assert_close(got, 2 * (1 - torch.stack(purities).mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_range_and_shape(dtype):
    inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    weights = torch.zeros(3, 8, dtype=dtype)
    state = statevector.final_state(Ansatz(8, 3), inputs, weights)
    for diagnostic in (coherence, meyer_wallach):
        values = diagnostic(state)
        assert values.shape == (64,)
        assert values.dtype == dtype
        assert ((values > 0) & (values < 1)).all()
        assert diagnostic(state[:0]).shape == (0,)


def test_nan_stays_in_its_sample():
    state = torch.cat([ghz(3), uniform(3)])
    state[0, 2] = torch.nan
    for diagnostic in (coherence, meyer_wallach):
        values = diagnostic(state)
        assert values[0].isnan()
        assert torch.equal(values[1:], diagnostic(state[1:]))


@pytest.mark.parametrize("diagnostic", [coherence, meyer_wallach])
@pytest.mark.parametrize("size", [0, 1, 6])
def test_refuses_what_is_no_state(diagnostic, size):
    message = f"state has shape (2, {size}); allowed: (batch, 2**n), n >= 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        diagnostic(torch.zeros(2, size))


def make_layer(n_qubits, n_layers, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return QuantumLayer(n_qubits, n_layers, generator=generator, init_std=2.0, **options)


def draw_inputs(*shape, seed=1):
    return 4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_final_states(layer, inputs):
    """In double precision, state by state."""
    states = statevector.final_state(
        layer.ansatz, inputs.double().flatten(0, -2), layer.weights.detach().double()
    )
    values = coherence(states), meyer_wallach(states)
    return [value.view(inputs.shape[:-1]) for value in values]


@given(
    n_qubits=st.integers(1, 7),
    n_layers=st.integers(1, 4),
    entangler=st.sampled_from(["ring", "chain", "none"]),
    reupload=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_a_layers_states_in_one_pass(n_qubits, n_layers, entangler, reupload, dtype, seed):
    layer = make_layer(n_qubits, n_layers, seed, entangler=entangler, reupload=reupload)
    inputs = draw_inputs(5, n_qubits, seed=seed)
    expected = of_final_states(layer, inputs)
    got = coherence_and_entanglement(layer.to(dtype), inputs.to(dtype))
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, state_kernel.TILE, state_kernel.TILE + 1, 300])
def test_any_number_of_samples(batch):
    layer, inputs = make_layer(8, 3), draw_inputs(batch, 8)
    for one, other in zip(
        coherence_and_entanglement(layer, inputs), of_final_states(layer, inputs), strict=True
    ):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("reupload", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (0, 3), (2, 0, 3)])
def test_leading_shapes(shape, reupload):
    layer, inputs = make_layer(3, 2, reupload=reupload), draw_inputs(*shape)
    expected = of_final_states(layer, inputs) if inputs.ndim > 1 else None
    for i, values in enumerate(coherence_and_entanglement(layer, inputs)):
        assert values.shape == shape[:-1]
        assert not values.requires_grad
        if expected is not None:
            torch.testing.assert_close(values.double(), expected[i], rtol=0, atol=1e-5)


def test_a_layer_whose_states_are_known():
    """No rotation: |000>. A half turn of qubit 0: |100>, which the chain makes |111>.
    A quarter turn of qubit 0: GHZ."""
    layer = make_layer(3, 1, entangler="chain")
    with torch.no_grad():
        layer.weights.zero_()
    inputs = torch.tensor([[0.0, 0, 0], [torch.pi, 0, 0], [torch.pi / 2, 0, 0]])
    got = torch.stack(coherence_and_entanglement(layer, inputs))
    expected = torch.tensor([[0, 0, 1 / 3], [0, 0, 1]])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_a_broken_sample_breaks_no_other():
    layer, inputs = make_layer(4, 2), draw_inputs(6, 4)
    broken = inputs.clone()
    broken[2, 1] = torch.nan
    others = [0, 1, 3, 4, 5]
    for one, other in zip(
        coherence_and_entanglement(layer, broken),
        coherence_and_entanglement(layer, inputs),
        strict=True,
    ):
        assert one[2].isnan()
        assert torch.equal(one[others], other[others])


@pytest.mark.parametrize(
    ("n_qubits", "reupload"), [(state_kernel.MAX_QUBITS + 1, False), (3, True)]
)
def test_states_that_have_to_be_kept_are_kept_in_chunks(monkeypatch, n_qubits, reupload):
    layer, inputs = make_layer(n_qubits, 2, reupload=reupload), draw_inputs(5, n_qubits)
    monkeypatch.setattr(diagnostics, "CHUNK_AMPLITUDES", 2 * 2**n_qubits)
    for one, other in zip(
        coherence_and_entanglement(layer, inputs), of_final_states(layer, inputs), strict=True
    ):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "error"), [(torch.zeros(2, 4), ValueError), (torch.zeros(2, 3).double(), TypeError)]
)
def test_refuses_what_the_layer_refuses(inputs, error):
    with pytest.raises(error, match="inputs has "):
        coherence_and_entanglement(make_layer(3, 2), inputs)
