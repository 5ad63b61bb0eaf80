import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.circuit import Ansatz, QuantumLayer
from quantum_hybrid.circuit.ansatz import (
    MAX_LAYERS,
    MAX_QUBITS,
    entangler_sources,
    entangler_targets,
)


@st.composite
def ansatze(draw):
    entangler = draw(st.sampled_from(["ring", "chain", "none"]))
    return Ansatz(draw(st.integers(1, 7)), draw(st.integers(1, 3)), entangler)


@pytest.mark.parametrize(
    ("n_qubits", "entangler", "cnots"),
    [
        (1, "ring", ()),
        (1, "chain", ()),
        (2, "ring", ((0, 1), (1, 0))),
        (2, "chain", ((0, 1),)),
        (4, "ring", ((0, 1), (1, 2), (2, 3), (3, 0))),
        (4, "chain", ((0, 1), (1, 2), (2, 3))),
        (4, "none", ()),
    ],
)
def test_cnots(n_qubits, entangler, cnots):
    assert Ansatz(n_qubits, 1, entangler).cnots == cnots


@given(ansatze())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_permutation_is_the_cnots_one_by_one(ansatz):
    """On bit strings, qubit 0 first: the target flips where the control is 1."""
    n_qubits = ansatz.n_qubits
    for source in range(2**n_qubits):
        bits = [int(bit) for bit in f"{source:0{n_qubits}b}"]
        for control, target in ansatz.cnots:
            bits[target] ^= bits[control]
        target_index = int("".join(map(str, bits)), 2)
        assert entangler_targets(ansatz)[source] == target_index
        assert entangler_sources(ansatz)[target_index] == source


@given(ansatze())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_readout_is_the_parity_that_the_entangler_writes(ansatz):
    n_qubits = ansatz.n_qubits
    targets = entangler_targets(ansatz)
    for source in range(2**n_qubits):
        before = [int(bit) for bit in f"{source:0{n_qubits}b}"]
        after = [int(bit) for bit in f"{int(targets[source]):0{n_qubits}b}"]
        assert after == [sum(before[q] for q in qubits) % 2 for qubits in ansatz.readout]


def test_readout_of_the_ring():
    assert Ansatz(4, 1).readout == ((1, 2, 3), (0, 1), (0, 1, 2), (0, 1, 2, 3))


@given(ansatze())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_without_later_rotations_an_output_is_a_product_of_cosines(ansatz):
    layer = QuantumLayer(ansatz.n_qubits, ansatz.n_layers, ansatz.entangler, dtype=torch.float64)
    angles = torch.linspace(0.2, 1.4, ansatz.n_qubits, dtype=torch.float64)
    with torch.no_grad():
        layer.weights.zero_()
        outputs = layer(angles)
    cosines = angles.cos()
    expected = torch.stack([cosines[list(qubits)].prod() for qubits in ansatz.encoded_parities])
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


def test_is_data():
    assert Ansatz(3, 2) == Ansatz(3, 2, "ring", False)
    assert len({Ansatz(3, 2), Ansatz(3, 2), Ansatz(3, 2, reupload=True)}) == 2
    assert entangler_sources(Ansatz(3, 2)).dtype == torch.int64


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"n_qubits": 0},
            ValueError,
            f"n_qubits=0 is out of range; allowed: an integer from 1 to {MAX_QUBITS}",
        ),
        ({"n_qubits": MAX_QUBITS + 1}, ValueError, f"n_qubits={MAX_QUBITS + 1} is out of range"),
        ({"n_qubits": 2.0}, TypeError, "n_qubits=2.0 must be an integer from 1 to"),
        ({"n_qubits": True}, TypeError, "n_qubits=True must be an integer from 1 to"),
        (
            {"n_layers": 0},
            ValueError,
            f"n_layers=0 is out of range; allowed: an integer from 1 to {MAX_LAYERS}",
        ),
        ({"n_layers": 10**18}, ValueError, f"n_layers={10**18} is out of range"),
        ({"n_layers": "3"}, TypeError, "n_layers='3' must be an integer from 1 to"),
        (
            {"entangler": "star"},
            ValueError,
            "entangler='star' is unknown; allowed: ring, chain, none",
        ),
        ({"reupload": 1}, TypeError, "reupload=1 must be True or False"),
    ],
)
def test_refuses(fields, error, message):
    # Past __init__, where the run-time type checker of the tests would be the first to object.
    ansatz = object.__new__(Ansatz)
    values = {"n_qubits": 2, "n_layers": 1, "entangler": "ring", "reupload": False, **fields}
    for name, value in values.items():
        object.__setattr__(ansatz, name, value)
    with pytest.raises(error, match=re.escape(message)):
        ansatz.__post_init__()


def test_construction_validates():
    with pytest.raises(ValueError, match="n_qubits=0 is out of range"):
        Ansatz(0, 1)
    with pytest.raises(TypeError, match="n_layers"):
        Ansatz(2, 1.5)  # pyright: ignore[reportArgumentType]
