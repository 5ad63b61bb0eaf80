"""The surrogate is the circuit itself, not an approximation of it."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from quantum_hybrid.circuit import Ansatz, QuantumLayer, Surrogate, statevector
from quantum_hybrid.circuit.analysis import surrogate

DOUBLE = torch.float64


def make_layer(n_qubits=3, n_layers=2, seed=0, dtype=DOUBLE, **options):
    generator = torch.Generator().manual_seed(seed)
    return QuantumLayer(
        n_qubits, n_layers, generator=generator, init_std=2.0, dtype=dtype, **options
    )


def draw_inputs(*shape, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(1)
    return (8 * torch.rand(*shape, generator=generator, dtype=DOUBLE) - 4).to(dtype)


def values_and_gradient(function, inputs):
    inputs = inputs.clone().requires_grad_()
    outputs = function(inputs)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs) + 0.3
    return outputs.detach(), *torch.autograd.grad(outputs, inputs, weights)


@given(
    n_qubits=st.integers(1, 6),
    n_layers=st.integers(1, 4),
    entangler=st.sampled_from(["ring", "chain", "none"]),
    seed=st.integers(0, 2**31),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_is_the_circuit_in_values_and_gradients(n_qubits, n_layers, entangler, seed):
    layer = make_layer(n_qubits, n_layers, seed, entangler=entangler)
    inputs = draw_inputs(7, n_qubits)
    ansatz = Ansatz(n_qubits, n_layers, entangler)
    expected = values_and_gradient(
        lambda x: statevector.expectations(ansatz, x, layer.weights.detach()), inputs
    )
    got = values_and_gradient(Surrogate.of(layer), inputs)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_qubits", [8, surrogate.MAX_QUBITS])
def test_is_the_circuit_at_the_default_size_and_at_the_largest(n_qubits):
    layer = make_layer(n_qubits, 3)
    error = Surrogate.of(layer).error(layer, draw_inputs(100, n_qubits))
    assert 0 < error.rms <= error.largest < 1e-10


def test_trained_layer_in_float32():
    layer = make_layer(8, 3, dtype=torch.float32)
    inputs = draw_inputs(256, 8, dtype=torch.float32)
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(inputs) - inputs.sin()).square().mean()
        loss.backward()
        optimizer.step()
    twin = Surrogate.of(layer)
    fresh = torch.randn(500, 8, generator=torch.Generator().manual_seed(2))
    error = twin.error(layer, fresh)
    assert error.largest < 1e-5
    assert error.rms < 2e-6
    torch.testing.assert_close(twin(fresh), layer(fresh), rtol=0, atol=1e-5)
    with torch.no_grad():
        layer.weights[0, 0] += 0.1
    assert twin.error(layer, fresh).largest > 0.01


def test_error_is_the_largest_and_the_root_mean_square():
    zero = Surrogate(torch.zeros(9, 2, dtype=DOUBLE))
    layer = make_layer(2, 1, entangler="none")
    with torch.no_grad():
        layer.weights.zero_()
    inputs = torch.tensor([[0.0, math.pi / 2], [math.pi / 3, math.pi / 2]], dtype=DOUBLE)
    # The outputs are the cosines: 1, 0, 1/2, 0.
    error = zero.error(layer, inputs)
    assert error.largest == pytest.approx(1)
    assert error.rms == pytest.approx(math.sqrt(1.25 / 4))


def test_one_qubit_by_hand():
    """One qubit: cos(x + t) = cos t cos x - sin t sin x, t the sum of its weights."""
    layer = make_layer(1, 3)
    t = layer.weights.sum().item()
    expected = torch.tensor([[0.0], [math.cos(t)], [-math.sin(t)]], dtype=DOUBLE)
    torch.testing.assert_close(Surrogate.of(layer).coefficients, expected, rtol=0, atol=1e-14)


def test_chain_of_two_by_hand():
    """Output 0 is cos(x + s), output 1 is cos(x + s) cos(y + t)."""
    layer = make_layer(2, 1, entangler="chain")
    s, t = layer.weights[0].tolist()
    a, b = (torch.tensor([0.0, math.cos(v), -math.sin(v)], dtype=DOUBLE) for v in (s, t))
    one = torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE)
    got = Surrogate.of(layer)
    expected = torch.stack([a[:, None] * one, a[:, None] * b], -1)
    torch.testing.assert_close(got.coefficients.view(3, 3, 2), expected, rtol=0, atol=1e-14)
    assert got.n_nonzero() == 2 + 4
    assert repr(got) == "Surrogate(n_qubits=2, coefficients=18, not zero=6)"


@pytest.mark.parametrize(
    ("entangler", "expected"),
    [("none", 5 * 2), ("chain", 2 + 4 + 8 + 16 + 32), ("ring", 16 + 4 + 8 + 16 + 32)],
)
def test_nonzero_coefficients_of_one_layer(entangler, expected):
    """Each output is a product of the cosines of k shifted inputs, which has 2**k terms."""
    assert Surrogate.of(make_layer(5, 1, entangler=entangler)).n_nonzero() == expected


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_leading_shapes_and_dtypes(shape, dtype):
    layer = make_layer(dtype=dtype)
    inputs = draw_inputs(*shape, dtype=dtype)
    outputs = Surrogate.of(layer)(inputs)
    assert outputs.shape == shape
    torch.testing.assert_close(outputs, layer(inputs), rtol=0, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    twin = Surrogate.of(make_layer(4, 2))
    inputs = draw_inputs(9, 4)
    expected = values_and_gradient(twin, inputs)
    monkeypatch.setattr(surrogate, "CHUNK_BYTES", 2 * 9 * 4 * 8)
    for one, other in zip(values_and_gradient(twin, inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("n_qubits", "reupload", "message"),
    [
        (11, False, "n_qubits=11 is too large for a surrogate, which has 3**n coefficients an "),
        (
            3,
            True,
            "reupload=True is not supported by a surrogate: inputs encoded once a layer have ",
        ),
    ],
)
def test_refuses_a_circuit_without_such_a_polynomial(n_qubits, reupload, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Surrogate.of(make_layer(n_qubits, reupload=reupload))
    assert "allowed" in str(caught.value)


def test_refuses_weights_that_are_not_finite():
    layer = make_layer()
    with torch.no_grad():
        layer.weights[0, 0] = math.nan
    with pytest.raises(ValueError, match="weights of the layer hold a NaN or an infinity"):
        Surrogate.of(layer)


@pytest.mark.parametrize("shape", [(), (3,), (9, 3), (3, 9, 3), (1, 0), (3**2, 2, 1)])
def test_refuses_other_shapes_of_coefficients(shape):
    message = f"coefficients has shape {shape}; allowed: (3**n, n) for n from 1 to 10"
    with pytest.raises(ValueError, match=re.escape(message)):
        Surrogate(torch.zeros(shape))


def test_refuses_other_inputs():
    twin = Surrogate.of(make_layer())
    with pytest.raises(ValueError, match=re.escape("inputs has shape (5, 4); allowed: (..., 3)")):
        twin(torch.zeros(5, 4))
    with pytest.raises(TypeError, match=r"inputs is torch\.int64; allowed: torch\.float32, torch"):
        twin(torch.zeros(5, 3, dtype=torch.int64))


def test_round_trip_through_a_file(tmp_path):
    twin, path = Surrogate.of(make_layer()), tmp_path / "layer.safetensors"
    twin.save(path)
    again = Surrogate.load(str(path))
    assert torch.equal(again.coefficients, twin.coefficients)
    assert torch.equal(again(draw_inputs(5, 3)), twin(draw_inputs(5, 3)))


def damage(path, kind):
    tensors = load_file(path)
    metadata = {"format": surrogate.FORMAT, "version": surrogate.VERSION, "sha256": "0"}
    if kind == "no safetensors":
        path.write_bytes(b"not a tensor in sight")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[:-8])
    elif kind == "one bit":
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "another model":
        save_file({"weights": torch.zeros(3)}, path)
    elif kind == "a later version":
        save_file(tensors, path, metadata | {"version": "2"})
    elif kind == "another tensor":
        save_file({"weights": torch.zeros(3)}, path, metadata)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no safetensors", "header"),
        ("empty", "header"),
        ("cut short", "incomplete"),
        ("a folder", "os error"),
        ("one bit", "its SHA-256 does not match: it is damaged"),
        ("another model", "its format is None; allowed: 'quantum-hybrid surrogate'"),
        ("a later version", "its version is '2'; allowed: '1'"),
        ("another tensor", "coefficients"),
    ],
)
def test_a_damaged_or_wrong_file_is_one_clear_error(tmp_path, kind, reason):
    path = tmp_path / "layer.safetensors"
    Surrogate.of(make_layer()).save(path)
    damage(path, kind)
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        Surrogate.load(path)
    assert str(caught.value).startswith(f"{path} is not a surrogate that can be read: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Surrogate.load(tmp_path / "none.safetensors")
