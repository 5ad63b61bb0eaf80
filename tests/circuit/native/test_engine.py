"""What is the native engine's own: both uses of its lanes, depth, threads, and what it refuses."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import ENTANGLERS, TOLERANCE, draw_angles, values_and_gradients
from quantum_hybrid.circuit import Ansatz, native, statevector
from quantum_hybrid.circuit.native import engine
from quantum_hybrid.circuit.native.angles import reduce_angles
from quantum_hybrid.circuit.native.passes import passes_of, work_of
from quantum_hybrid.compiled.layout import LAYOUTS
from quantum_hybrid.compiled.threads import ALIGNMENT_BYTES
from quantum_hybrid.compiled.vectors import LAYOUT

pytestmark = pytest.mark.vectors


def assert_right(ansatz, inputs, weights):
    """Native's values and gradients are the statevector's in double precision."""
    double = (x.detach().double().requires_grad_() for x in (inputs, weights))
    expected = values_and_gradients(statevector, ansatz, *double)
    tolerance = TOLERANCE[inputs.dtype]
    for one, other in zip(
        values_and_gradients(native, ansatz, inputs, weights), expected, strict=True
    ):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("entangler", ENTANGLERS)
@pytest.mark.parametrize(
    ("n_qubits", "n_layers", "batch"),
    [
        (8, 3, 40),
        (9, 3, 17),
        (10, 2, 5),
        (11, 3, 3),
        (12, 3, 3),
        (13, 1, 2),
        (14, 2, 2),
        (17, 3, 1),
        (18, 2, 1),
        (20, 2, 1),
    ],
)
def test_agrees_with_statevector(n_qubits, n_layers, batch, entangler, dtype):
    """From 12 qubits on the lanes are amplitudes of one sample; below they are samples. A state of
    17 is several blocks, and one of 18 has two groups whose passes go across them."""
    ansatz = Ansatz(n_qubits, n_layers, entangler)
    assert_right(ansatz, *draw_angles(ansatz, batch, dtype))


ansatze = st.builds(
    Ansatz,
    n_qubits=st.integers(1, 7),
    n_layers=st.integers(1, 4),
    entangler=st.sampled_from(ENTANGLERS),
)


@pytest.mark.parametrize("dtype", TOLERANCE)
@given(ansatz=ansatze, batch=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_agrees_with_statevector_when_small(dtype, ansatz, batch, seed):
    """One group, two or three; one tile of samples or several, the last one not full."""
    assert_right(ansatz, *draw_angles(ansatz, batch, dtype, seed=seed))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("n_qubits", "n_layers"), [(3, 100), (8, 60), (12, 30), (16, 20)])
def test_many_layers_leave_the_range_of_floats_alone(n_qubits, n_layers, dtype):
    """All angles near pi/2 make a state in tangent form as long as it can get."""
    ansatz = Ansatz(n_qubits, n_layers)
    inputs, weights = draw_angles(ansatz, 2, torch.float64, largest=0.1)
    inputs = inputs.detach().to(dtype).requires_grad_()
    weights = (weights.detach() + 1.5).to(dtype).requires_grad_()
    assert_right(ansatz, inputs, weights)


@given(
    st.builds(
        Ansatz,
        n_qubits=st.integers(1, 5),
        n_layers=st.integers(2, 5),
        entangler=st.sampled_from(ENTANGLERS),
    ),
    st.integers(0, 2**31),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_reduced_angles_are_small_and_change_nothing(ansatz, seed):
    inputs, weights = (x.detach() for x in draw_angles(ansatz, 2, torch.float64, 9.0, seed))
    reduced, _, signs = reduce_angles(weights.numpy(), passes_of(ansatz, np.dtype(float)).cnots)
    assert abs(reduced).max() <= torch.pi / 2 + 1e-12
    replaced = torch.cat([weights[:1], torch.from_numpy(reduced)])
    expected = statevector.expectations(ansatz, inputs, weights)
    got = statevector.expectations(ansatz, inputs, replaced) * torch.from_numpy(signs)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, torch.pi / 2, torch.pi, -torch.pi, 3 * torch.pi])
def test_right_at_every_special_angle(angle):
    ansatz = Ansatz(5, 3)
    inputs, weights = draw_angles(ansatz, 2, torch.float32)
    weights = torch.full_like(weights, angle).requires_grad_()
    assert_right(ansatz, inputs, weights)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_qubits", [3, 12])
@pytest.mark.parametrize("angle", [1e3, 2.0**17, -1e7, 1e15, 1e30])
def test_right_for_angles_of_any_size(n_qubits, angle, dtype):
    """Beyond some size the cosines of a whole row of samples are a library's."""
    ansatz = Ansatz(n_qubits, 2)
    inputs, weights = (x.detach() for x in draw_angles(ansatz, 5, dtype))
    inputs[1, 1] = weights[0, 2] = weights[1, 0] = angle
    near = [torch.atan2(x.double().sin(), x.double().cos()) for x in (inputs, weights)]
    outputs = native.expectations(ansatz, inputs, weights)
    expected = statevector.expectations(ansatz, *near)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(outputs.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("n_qubits", "batch"), [(8, 3000), (12, 200)])
def test_threads_do_not_change_a_bit(monkeypatch, n_qubits, batch):
    ansatz = Ansatz(n_qubits, 3)
    angles = draw_angles(ansatz, batch, torch.float32)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(values_and_gradients(native, ansatz, *angles))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("entangler", ENTANGLERS)
@pytest.mark.parametrize(
    ("n_qubits", "n_layers"), [(1, 4), (2, 3), (7, 2), (11, 3), (12, 1), (16, 2)]
)
def test_it_stays_within_its_memory(monkeypatch, n_qubits, n_layers, entangler, dtype):
    """And takes nothing that it finds there for granted."""

    def run_on_threads(work, n_threads, n_scalars, kind):
        memory = aligned(n_scalars + 1000, kind)
        memory[:n_scalars], memory[n_scalars:] = np.nan, 7
        work(memory[:n_scalars])
        assert (memory[n_scalars:] == 7).all()

    monkeypatch.setattr(engine, "run_on_threads", run_on_threads)
    ansatz = Ansatz(n_qubits, n_layers, entangler)
    assert_right(ansatz, *draw_angles(ansatz, 3, dtype))


def aligned(count, dtype):
    """Numbers that begin where a row may."""
    memory = np.empty(count * dtype.itemsize + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + count * dtype.itemsize].view(dtype)


@pytest.mark.parametrize("n_qubits", [5, 12])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_sample_breaks_no_other(n_qubits, value):
    ansatz = Ansatz(n_qubits, 2)
    inputs, weights = draw_angles(ansatz, 4, torch.float32)
    sound = native.expectations(ansatz, inputs, weights)
    broken = inputs.detach().clone()
    broken[2, 1] = value
    outputs = native.expectations(ansatz, broken, weights)
    assert outputs[2].isnan().all()
    assert torch.equal(outputs[[0, 1, 3]], sound[[0, 1, 3]])


def test_a_second_derivative_is_refused():
    ansatz = Ansatz(3, 2)
    inputs, weights = draw_angles(ansatz, 2, torch.float64)
    outputs = native.expectations(ansatz, inputs, weights)
    (first,) = torch.autograd.grad(outputs.sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative is not supported by engine='native'"):
        torch.autograd.grad(first.sum(), weights)


@pytest.mark.parametrize(
    ("ansatz", "message"),
    [
        (Ansatz(4, 2, reupload=True), "reupload=True is not supported by engine='native'"),
        (Ansatz(25, 1), "n_qubits=25 is too large for engine='native'"),
        (Ansatz(24, 5), "n_layers=5 is too many for engine='native' at n_qubits=24: it keeps"),
        (Ansatz(24, 5), "allowed: 2; use engine='statevector'"),
        (Ansatz(11, 10_000), "n_layers=10000 is too many for engine='native' at n_qubits=11"),
        (Ansatz(24, 20), "allowed: 2; use fewer layers: no other engine holds this circuit"),
        (Ansatz(24, 20, "none"), "allowed: 2; use engine='tensor_network'"),
    ],
)
def test_what_would_not_fit_is_refused(ansatz, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        native.check(ansatz)


@pytest.mark.parametrize(
    "ansatz", [Ansatz(24, 4), Ansatz(20, 85), Ansatz(16, 1625), Ansatz(11, 5367), Ansatz(8, 10_000)]
)
def test_what_fits_in_any_layout_is_not_refused(ansatz):
    native.check(ansatz)


@pytest.mark.parametrize(
    "ansatz", [Ansatz(24, 5), Ansatz(20, 86), Ansatz(16, 1626), Ansatz(11, 5368)]
)
def test_what_fits_only_in_some_layouts_is_refused_in_all(ansatz):
    """Or a layer that is made on one machine could not be made on another."""
    kept = [4 * work_of(ansatz, 4, layout).backward for layout in LAYOUTS]
    assert min(kept) < engine.MAX_WORK_BYTES < max(kept)
    with pytest.raises(ValueError, match="is too many for engine='native'"):
        native.check(ansatz)


@pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype("f8")])
def test_the_plan_is_in_rows_of_this_layout(dtype):
    passes = passes_of(Ansatz(20, 3), dtype)
    assert passes.n_lanes * dtype.itemsize == LAYOUT.row_bytes
    assert passes.group_size.max() == LAYOUT.max_group


def test_another_device_is_refused():
    ansatz = Ansatz(3, 2)
    with pytest.raises(ValueError, match="inputs is on meta; allowed for engine='native': cpu"):
        native.expectations(ansatz, torch.zeros(2, 3, device="meta"), torch.zeros(2, 3))
