"""Against what is known of Haar-random states, real and complex, and of states that are not."""

import math
import re

import pytest
import torch

from quantum_hybrid.circuit import Ansatz
from quantum_hybrid.circuit.analysis.diagnostics import meyer_wallach
from quantum_hybrid.circuit.analysis.expressibility import (
    N_BINS,
    divergence_from_haar,
    estimate_capability,
    estimate_expressibility,
    log_complex_haar_bins,
    log_haar_bins,
)

DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def haar_states(n_samples, dimension, dtype=DOUBLE, seed=0):
    states = torch.randn(n_samples, dimension, generator=generator(seed), dtype=dtype)
    return states / torch.linalg.vector_norm(states, dim=1, keepdim=True)


def haar_fidelities(n_pairs, dimension, dtype=DOUBLE):
    one = haar_states(n_pairs, dimension, dtype, seed=1)
    other = haar_states(n_pairs, dimension, dtype, seed=2)
    return (one * other.conj()).sum(1).abs().square()


@pytest.mark.parametrize("bins", [log_haar_bins, log_complex_haar_bins])
@pytest.mark.parametrize("dimension", [2, 4, 16, 256, 2**12])
def test_bins_add_up_to_one_and_none_is_lost(bins, dimension):
    log_p = bins(dimension)
    assert log_p.shape == (N_BINS,)
    assert log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("dimension", [2, 4])
def test_real_bins_of_one_and_two_qubits(dimension):
    """Beta(1/2, 1/2) is the arcsine law; Beta(1/2, 3/2) adds sqrt(f (1 - f))."""
    f = torch.linspace(0, 1, N_BINS + 1, dtype=DOUBLE)
    distribution = 2 / math.pi * f.sqrt().asin()
    if dimension == 4:
        distribution = distribution + 2 / math.pi * (f * (1 - f)).sqrt()
    torch.testing.assert_close(log_haar_bins(dimension).exp(), distribution.diff())


def test_complex_bins_of_one_qubit_are_even():
    torch.testing.assert_close(
        log_complex_haar_bins(2).exp(), torch.full((N_BINS,), 1 / N_BINS, dtype=DOUBLE)
    )


@pytest.mark.parametrize("dimension", [2, 8, 64])
def test_haar_states_are_as_expressible_as_can_be(dimension):
    found = divergence_from_haar(haar_fidelities(20_000, dimension), dimension)
    assert 0 <= found.kl_nats < 2 * found.floor
    assert found.kl_nats_complex > 10 * found.kl_nats
    assert found.n_pairs == 20_000


def test_complex_haar_states_against_the_complex_reference():
    fidelities = haar_fidelities(20_000, 8, torch.complex128)
    found = divergence_from_haar(fidelities, 8)
    assert 0 <= found.kl_nats_complex < 2 * found.floor
    assert found.kl_nats > 10 * found.kl_nats_complex


def test_divergence_and_its_standard_error_by_hand():
    """All pairs in the first bin: KL = -ln q. Half in the first, half in the last likewise."""
    log_q = log_haar_bins(4)
    same = divergence_from_haar(torch.full((10,), 0.001, dtype=DOUBLE), 4)
    assert same.kl_nats == pytest.approx(-log_q[0].item())
    assert same.standard_error == same.floor == 0
    halves = divergence_from_haar(torch.tensor([0.001, 0.999] * 5, dtype=DOUBLE), 4)
    surprise = (math.log(0.5) - log_q[[0, -1]]).tolist()
    assert halves.kl_nats == pytest.approx(sum(surprise) / 2)
    # The standard deviation of two equally likely numbers is half their distance.
    expected = abs(surprise[0] - surprise[1]) / 2 / math.sqrt(10)
    assert halves.standard_error == pytest.approx(expected)
    assert halves.floor == pytest.approx(1 / 20)


def test_identical_states_of_many_qubits_are_far_from_haar_but_not_infinitely():
    found = divergence_from_haar(torch.ones(10, dtype=DOUBLE), 2**10)
    # Sim et al.: (N - 1) ln(bins) for the complex measure.
    assert found.kl_nats_complex == pytest.approx((2**10 - 1) * math.log(N_BINS))
    assert math.isfinite(found.kl_nats)


def test_one_qubit_covers_its_circle():
    """RY of a uniform angle is the real Haar measure of one qubit."""
    found = estimate_expressibility(Ansatz(1, 1), generator(), 20_000)
    assert found.kl_nats < 2 * found.floor


def test_product_states_cover_less_and_layers_cover_more():
    product = estimate_expressibility(Ansatz(4, 3, "none"), generator(), 4000)
    shallow = estimate_expressibility(Ansatz(4, 1), generator(), 4000)
    deep = estimate_expressibility(Ansatz(4, 5), generator(), 4000)
    # One layer is a product state but for a permutation of the basis.
    assert abs(product.kl_nats - shallow.kl_nats) < 5 * product.standard_error
    assert product.kl_nats > 10 * deep.kl_nats
    assert deep.kl_nats < 2 * deep.floor


def test_capability_of_product_states_is_zero():
    found = estimate_capability(Ansatz(4, 3, "none"), generator(), 100)
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.n_samples == 100


def test_capability_of_one_chain_of_two_qubits():
    """cos a/2, sin a/2 and a CNOT on b: Q = sin^2 a cos^2 b, whose mean is 1/4."""
    found = estimate_capability(Ansatz(2, 1, "chain"), generator(), 20_000)
    assert found.mean == pytest.approx(1 / 4, abs=4 * found.standard_error)
    # E sin^4 = E cos^4 = 3/8.
    expected = math.sqrt((9 / 64 - 1 / 16) / 20_000)
    assert found.standard_error == pytest.approx(expected, rel=0.05)


def test_capability_of_many_layers_is_that_of_haar_states():
    """(N - 2) / (N + 2) for real states: 14/18 at four qubits."""
    haar = meyer_wallach(haar_states(20_000, 16)).mean().item()
    assert haar == pytest.approx(14 / 18, abs=0.003)
    found = estimate_capability(Ansatz(4, 8), generator(), 4000)
    assert found.mean == pytest.approx(14 / 18, abs=4 * found.standard_error)


def test_the_seed_decides():
    one, same, other = (estimate_expressibility(Ansatz(3, 2), generator(s), 50) for s in (0, 0, 1))
    assert one == same != other


def test_refuses_too_few_samples():
    message = "n_pairs=1 is out of range; allowed: an integer of at least 2"
    with pytest.raises(ValueError, match=re.escape(message)):
        estimate_expressibility(Ansatz(2, 1), generator(), 1)
    with pytest.raises(ValueError, match="n_samples=0"):
        estimate_capability(Ansatz(2, 1), generator(), 0)
    with pytest.raises(ValueError, match="n_qubits=25 is too large"):
        estimate_expressibility(Ansatz(25, 1), generator(), 10)
