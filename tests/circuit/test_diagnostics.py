import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.circuit import Ansatz, coherence, meyer_wallach, statevector


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
