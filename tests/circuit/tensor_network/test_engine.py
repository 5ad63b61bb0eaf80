"""The tensor network, compiled and in torch: against the statevector, and beyond its reach."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import TOLERANCE, draw_angles, values_and_gradients
from quantum_hybrid.circuit import Ansatz, statevector, tensor_network
from quantum_hybrid.circuit.tensor_network import plain_torch as transfer_torch

VERSIONS = [tensor_network, transfer_torch]


def assert_same(got, expected, tolerance):
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


def assert_right(version, ansatz, inputs, weights):
    """Values and gradients are the statevector's in double precision."""
    double = (x.detach().double().requires_grad_() for x in (inputs, weights))
    expected = values_and_gradients(statevector, ansatz, *double)
    got = values_and_gradients(version, ansatz, inputs, weights)
    assert_same(got, expected, TOLERANCE[inputs.dtype])


ansatze = st.builds(
    Ansatz,
    n_qubits=st.integers(1, 8),
    n_layers=st.integers(1, 4),
    entangler=st.sampled_from(["ring", "chain", "none"]),
    reupload=st.booleans(),
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@given(ansatz=ansatze, batch=st.sampled_from([1, 2, 5, 33]), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_agrees_with_statevector(version, dtype, ansatz, batch, seed):
    assert_right(version, ansatz, *draw_angles(ansatz, batch, dtype, seed=seed))


@pytest.mark.parametrize("reupload", [False, True])
@pytest.mark.parametrize("entangler", ["ring", "chain"])
@pytest.mark.parametrize(("n_qubits", "n_layers"), [(14, 2), (12, 3), (10, 4), (3, 5)])
def test_agrees_with_statevector_when_large(n_qubits, n_layers, entangler, reupload):
    ansatz = Ansatz(n_qubits, n_layers, entangler, reupload)
    assert_right(tensor_network, ansatz, *draw_angles(ansatz, 2, torch.float64, largest=1.0))


@pytest.mark.parametrize("reupload", [False, True])
@pytest.mark.parametrize("entangler", ["ring", "chain"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_compiled_and_torch_agree_at_100_qubits(n_layers, entangler, reupload):
    """At angles that leave the outputs large enough to be told from 0."""
    ansatz = Ansatz(100, n_layers, entangler, reupload)
    angles = draw_angles(ansatz, 3, torch.float64, largest=0.1)
    compiled, plain = (values_and_gradients(version, ansatz, *angles) for version in VERSIONS)
    assert compiled[0].abs().min() > 1e-3
    assert_same(compiled, plain, 1e-10)


@pytest.mark.parametrize("version", VERSIONS)
def test_products_of_cosines_at_200_qubits(version):
    """One layer of a ring: parities of a product state."""
    ansatz = Ansatz(200, 1)
    inputs, weights = draw_angles(ansatz, 3, torch.float64, largest=0.1)
    cosines = (inputs + weights[0]).cos()
    expected = cosines.cumprod(1)
    expected = torch.cat([cosines[:, 1:].prod(1, keepdim=True), expected[:, 1:]], dim=1)
    torch.testing.assert_close(version.expectations(ansatz, inputs, weights), expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_separate_qubits_at_200_qubits(version):
    ansatz = Ansatz(200, 4, "none", reupload=True)
    inputs, weights = draw_angles(ansatz, 3, torch.float64)
    expected = (4 * inputs + weights.sum(0)).cos()
    torch.testing.assert_close(version.expectations(ansatz, inputs, weights), expected)


@pytest.mark.parametrize("n_qubits", [40, 512])
def test_single_precision_holds_for_many_qubits(n_qubits):
    ansatz = Ansatz(n_qubits, 3)
    inputs, weights = draw_angles(ansatz, 2, torch.float64, largest=0.05)
    exact = values_and_gradients(tensor_network, ansatz, inputs, weights)
    single = (x.detach().float().requires_grad_() for x in (inputs, weights))
    assert_same(values_and_gradients(tensor_network, ansatz, *single), exact, 2e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("entangler", ["ring", "chain", "none"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_sample_breaks_no_other(version, entangler, value):
    ansatz = Ansatz(30, 2, entangler)
    inputs, weights = draw_angles(ansatz, 4, torch.float32)
    sound = version.expectations(ansatz, inputs, weights)
    broken = inputs.detach().clone()
    broken[2, 29] = value
    outputs = version.expectations(ansatz, broken.requires_grad_(), weights)
    assert outputs[2].isnan().all()
    torch.testing.assert_close(outputs[[0, 1, 3]], sound[[0, 1, 3]])
    (gradient,) = torch.autograd.grad(outputs.sum(), broken)
    assert gradient[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("entangler", ["ring", "none"])
def test_an_empty_batch(version, entangler):
    ansatz = Ansatz(30, 3, entangler)
    inputs, weights = draw_angles(ansatz, 0, torch.float32)
    outputs, by_input, by_weight = values_and_gradients(version, ansatz, inputs, weights)
    assert outputs.shape == by_input.shape == (0, 30)
    assert torch.equal(by_weight, torch.zeros(3, 30))


def test_strides_do_not_matter():
    ansatz = Ansatz(20, 3)
    inputs, weights = draw_angles(ansatz, 8, torch.float32)
    strided = inputs.detach().T.contiguous().T[::2].requires_grad_()
    assert not strided.is_contiguous()
    got = values_and_gradients(tensor_network, ansatz, strided, weights.detach().T.contiguous().T
                               .requires_grad_())  # fmt: skip
    whole = strided.detach().contiguous().requires_grad_()
    for one, other in zip(
        got, values_and_gradients(tensor_network, ansatz, whole, weights), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("reupload", [False, True])
def test_threads_do_not_change_a_bit(monkeypatch, reupload):
    ansatz = Ansatz(30, 3, reupload=reupload)
    angles = draw_angles(ansatz, 200, torch.float32)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(values_and_gradients(tensor_network, ansatz, *angles))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_second_derivative_is_refused_when_compiled():
    ansatz = Ansatz(3, 2)
    inputs, weights = draw_angles(ansatz, 2, torch.float64)
    outputs = tensor_network.expectations(ansatz, inputs, weights)
    (first,) = torch.autograd.grad(outputs.sum(), weights, create_graph=True)
    with pytest.raises(
        RuntimeError, match="second derivative is not supported by engine='tensor_network'"
    ):
        torch.autograd.grad(first.sum(), weights)


@pytest.mark.parametrize("entangler", ["ring", "chain"])
def test_the_torch_version_has_second_derivatives(entangler):
    ansatz = Ansatz(4, 2, entangler, reupload=True)
    angles = draw_angles(ansatz, 1, torch.float64)

    def run(inputs, weights):
        return transfer_torch.expectations(ansatz, inputs, weights)

    assert torch.autograd.gradgradcheck(run, angles)


def test_a_batch_in_parts_is_the_batch(monkeypatch):
    """In parts also where no gradient is asked for."""
    ansatz = Ansatz(20, 3)
    angles = draw_angles(ansatz, 7, torch.float64, largest=0.5)
    whole = values_and_gradients(transfer_torch, ansatz, *angles)
    contract, parts = transfer_torch._contract, []

    def counted(ansatz, inputs, weights):
        parts.append(len(inputs))
        return contract(ansatz, inputs, weights)

    monkeypatch.setattr(transfer_torch, "_contract", counted)
    monkeypatch.setattr(transfer_torch, "GRAPH_BYTES", 2 * 5 * 16**2 * 20 * 8)
    assert_same(values_and_gradients(transfer_torch, ansatz, *angles), whole, 1e-12)
    assert sorted(parts) == sorted(2 * [2, 2, 2, 1])  # each once forward, once backward
    parts.clear()
    with torch.no_grad():
        assert_same([transfer_torch.expectations(ansatz, *angles)], whole[:1], 1e-12)
    assert parts == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("ansatz", "message"),
    [
        (Ansatz(100, 7), "the bond dimension of entangler='ring' is 4^6, allowed: 1024; use fewer"),
        (Ansatz(20, 7), "allowed: 1024; use engine='statevector'"),
        (Ansatz(100, 10, "chain"), "the bond dimension of entangler='chain' is 2^9, allowed: 256"),
        (Ansatz(512, 9, "chain"), "at n_qubits=512: it keeps about 6.4 GiB a thread, allowed: 2"),
    ],
)
def test_what_would_not_fit_is_refused(ansatz, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tensor_network.check(ansatz)


@pytest.mark.parametrize(
    "ansatz", [Ansatz(512, 6), Ansatz(100, 9, "chain"), Ansatz(512, 50, "none"), Ansatz(1, 50)]
)
def test_what_fits_is_not_refused(ansatz):
    tensor_network.check(ansatz)
