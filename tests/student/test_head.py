"""The hybrid head: alpha = 0 and 1, both mixings, the quantum pathway."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantum_hybrid.student import ClassicalHead, HybridHead, QuantumHead
from quantum_hybrid.student.head import Mixing

MIXINGS: tuple[Mixing, ...] = ("logits", "probability")
D_MODEL, VOCABULARY = 12, 30


def head(mixing: Mixing = "logits", alpha_logit: float = 0.0, **circuit: Any) -> HybridHead:
    torch.manual_seed(0)
    norm = nn.RMSNorm(D_MODEL)
    classical = ClassicalHead(norm, D_MODEL, VOCABULARY, decoder_bias=False)
    geometry: dict[str, Any] = {"n_qubits": 4, "n_layers": 2} | circuit
    quantum = QuantumHead(D_MODEL, VOCABULARY, **geometry)
    nn.init.normal_(quantum.up.weight)
    hybrid = HybridHead(classical, quantum, mixing)
    nn.init.constant_(hybrid.alpha_logit, alpha_logit)
    return hybrid


def hidden(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, D_MODEL, generator=torch.Generator().manual_seed(1))


def as_prediction(mixing: Mixing, logits: torch.Tensor) -> torch.Tensor:
    return logits if mixing == "logits" else logits.log_softmax(-1)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_alpha_one_is_fully_classical_and_alpha_zero_fully_quantum(mixing) -> None:
    classical_end = head(mixing, 40.0)(hidden(5))
    quantum_end = head(mixing, -40.0)(hidden(5))
    assert not torch.allclose(classical_end.classical, classical_end.quantum)
    torch.testing.assert_close(
        classical_end.hybrid, as_prediction(mixing, classical_end.classical), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        quantum_end.hybrid, as_prediction(mixing, quantum_end.quantum), rtol=0, atol=1e-6
    )


@given(alpha_logit=st.floats(-6, 6), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_mixtures_are_their_formulas(alpha_logit, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    classical = 4 * torch.randn(3, VOCABULARY, generator=generator)
    quantum = 4 * torch.randn(3, VOCABULARY, generator=generator)
    alpha = 1 / (1 + math.exp(-alpha_logit))
    logits = head("logits", alpha_logit).mix(classical, quantum)
    expected = (alpha * classical + (1 - alpha) * quantum) / math.hypot(alpha, 1 - alpha)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    log_p = head("probability", alpha_logit).mix(classical, quantum)
    mixture = alpha * F.softmax(classical, -1) + (1 - alpha) * F.softmax(quantum, -1)
    torch.testing.assert_close(log_p, mixture.log(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha_logit", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_a_mixture_of_equally_strong_logits_is_as_strong(alpha_logit) -> None:
    """For uncorrelated C and Q the factor 1 / r preserves the scale of the logits."""
    generator = torch.Generator().manual_seed(0)
    classical, quantum = torch.randn(2, 200_000, generator=generator)
    mixed = head("logits", alpha_logit).mix(classical, quantum)
    assert mixed.std().item() == pytest.approx(1, abs=0.01)


def test_probabilities_too_small_for_a_float_are_mixed_in_log_space() -> None:
    classical = torch.tensor([[0.0, -300.0]])
    quantum = torch.tensor([[0.0, -200.0]])
    log_p = head("probability").mix(classical, quantum)
    assert log_p[0, 1].item() == pytest.approx(-200 + math.log(0.5), abs=1e-4)


def test_alpha_starts_at_one_half_and_is_one_learned_number() -> None:
    new = HybridHead(head().classical, head().quantum, "logits")
    assert new.alpha.item() == 0.5
    assert new.alpha_logit.shape == ()
    assert new.alpha_logit.requires_grad


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_forward_is_made_of_its_documented_parts(mixing) -> None:
    hybrid, h = head(mixing, 0.7, entangler="chain", reupload=True), hidden(2, 3)
    logits = hybrid(h)
    assert logits.hybrid.shape == logits.quantum.shape == (2, 3, VOCABULARY)
    g = hybrid.classical.norm(h)
    quantum = hybrid.quantum
    first = quantum.circuit1(math.pi * torch.tanh(g @ quantum.down.weight.T + quantum.down.bias))
    z = quantum.circuit2(math.pi * first)
    torch.testing.assert_close(hybrid.expectations(h), z)
    torch.testing.assert_close(logits.quantum, z @ quantum.up.weight.T + quantum.up.bias)
    transform = hybrid.classical.transform
    rms = h.square().mean(-1, keepdim=True).sqrt()
    moved = h + transform.out(F.gelu(transform.into(h / rms)))
    expected = hybrid.classical.norm(moved) @ hybrid.classical.decoder.weight.T
    torch.testing.assert_close(logits.classical, expected)
    torch.testing.assert_close(logits.hybrid, hybrid.mix(logits.classical, logits.quantum))


@given(scale=st.floats(0, 1e4), seed=st.integers(0, 2**31), n_qubits=st.integers(1, 5))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_expectations_and_angles_stay_in_their_ranges(scale, seed, n_qubits) -> None:
    h = scale * torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(seed))
    hybrid = head(n_qubits=n_qubits)
    assert hybrid.quantum.angles(h).abs().max() <= math.pi + 1e-6
    z = hybrid.expectations(h)
    assert z.shape == (6, n_qubits)
    assert z.abs().max() <= 1 + 1e-5


def test_the_second_circuit_takes_what_the_first_one_measures() -> None:
    quantum, g = head().quantum, hidden(3)
    angles = quantum.angles(g)
    torch.testing.assert_close(quantum.second_angles(angles), math.pi * quantum.circuit1(angles))
    expected = quantum.circuit2(math.pi * quantum.circuit1(angles))
    torch.testing.assert_close(quantum.expectations(g), expected)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_gradient_reaches_every_parameter(mixing) -> None:
    hybrid = head(mixing)
    F.cross_entropy(hybrid(hidden(5)).hybrid, torch.arange(5)).backward()
    for name, parameter in hybrid.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_leading_shapes_do_not_matter() -> None:
    hybrid, h = head(), hidden(2, 3)
    flat = hybrid(h.reshape(6, D_MODEL)).hybrid.reshape(2, 3, VOCABULARY)
    torch.testing.assert_close(hybrid(h).hybrid, flat)


def test_the_classical_pathway_knows_nothing_of_the_circuits() -> None:
    hybrid = head()
    other = copy.deepcopy(hybrid)
    nn.init.normal_(other.quantum.circuit1.weights)
    nn.init.normal_(other.quantum.up.weight)
    h = hidden(4)
    assert torch.equal(hybrid(h).classical, other(h).classical)
    assert not torch.allclose(hybrid(h).quantum, other(h).quantum)
