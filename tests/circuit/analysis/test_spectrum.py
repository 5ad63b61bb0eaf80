"""Against circuits whose Fourier series is known."""

import math
import re

import pytest
import torch

from quantum_hybrid.circuit import QuantumLayer
from quantum_hybrid.circuit.analysis.spectrum import fourier_spectrum

DOUBLE = torch.float64


def make_layer(n_qubits, n_layers, **options):
    generator = torch.Generator().manual_seed(0)
    return QuantumLayer(
        n_qubits, n_layers, generator=generator, init_std=2.0, dtype=DOUBLE, **options
    )


def spectrum(layer, n_draws=16):
    return fourier_spectrum(layer, torch.Generator().manual_seed(1), n_draws)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_one_qubit_is_one_cosine(n_layers):
    """cos(x + t), whatever t: all of the power, 1/2, is at frequency 1."""
    found = spectrum(make_layer(1, n_layers))
    expected = torch.tensor([[[0.0, 0.5, 0.0, 0.0]]], dtype=DOUBLE)
    torch.testing.assert_close(found.power, expected, rtol=0, atol=1e-14)
    assert found.frequencies() == [[1]]


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_one_qubit_re_uploaded_is_one_higher_cosine(n_layers):
    """cos(L x + t)."""
    found = spectrum(make_layer(1, n_layers, reupload=True))
    assert found.frequencies() == [[n_layers]]
    assert found.power[0, 0, n_layers].item() == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("entangler", ["ring", "chain"])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_a_single_encoding_has_no_higher_frequency(entangler, n_layers):
    found = spectrum(make_layer(3, n_layers, entangler=entangler))
    assert found.frequencies() == [[0, 1]] * 3
    assert found.power.shape == (3, 3, 4)


def test_re_uploading_twice_has_frequencies_up_to_two():
    found = spectrum(make_layer(3, 2, reupload=True))
    assert found.frequencies() == [[0, 1, 2]] * 3
    assert found.power.shape == (3, 3, 5)


def test_without_entangler_an_input_moves_its_own_output_alone():
    found = spectrum(make_layer(3, 2, entangler="none"))
    own = torch.eye(3, dtype=torch.bool)
    expected = torch.tensor([0.0, 0.5, 0.0, 0.0], dtype=DOUBLE).expand(3, 4)
    torch.testing.assert_close(found.power[own], expected, rtol=0, atol=1e-14)
    assert (found.power[~own][:, 1:] < 1e-28).all()


def test_chain_of_two_by_hand():
    """Output 1 is cos(x + s) cos(y + t): moved in x, cos^2(y + t) / 2 on average at frequency 1."""
    layer = make_layer(2, 1, entangler="chain")
    y = 2 * math.pi * torch.rand(16, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    expected = (y[:, 1] + layer.weights[0, 1]).cos().square().mean().item() / 2
    found = spectrum(layer)
    assert found.power[0, 1, 1].item() == pytest.approx(expected)
    assert found.power[0, 0, 1].item() == pytest.approx(0.5)
    assert found.frequencies() == [[1], [0, 1]]


def test_powers_add_up_to_the_mean_square():
    """Over a full turn of input 0 at the drawn values of the others."""
    layer = make_layer(3, 2, reupload=True)
    others = (
        2 * math.pi * torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    )
    inputs = others.repeat_interleave(50, 0)
    inputs[:, 0] = (torch.arange(50, dtype=DOUBLE) * 2 * math.pi / 50).repeat(4)
    expected = layer(inputs).detach().square().mean(0)
    torch.testing.assert_close(spectrum(layer, 4).power[0].sum(1), expected)


def test_float32_layers_have_the_spectrum_of_their_weights():
    layer = make_layer(3, 2).float()
    assert spectrum(layer).power.dtype == DOUBLE
    assert spectrum(layer).frequencies() == [[0, 1]] * 3


def test_refuses_no_draws():
    message = "n_draws=0 is out of range; allowed: an integer of at least 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        spectrum(make_layer(2, 1), 0)
