import copy
import io
import pickle
import re
import subprocess
import sys

import pytest
import torch

from quantum_hybrid.circuit import QuantumLayer
from quantum_hybrid.circuit import layer as layer_module

ENGINES = ["auto", "native", "dense", "statevector", "tensor_network", "pennylane"]


def make_layer(n_qubits=3, n_layers=2, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return QuantumLayer(n_qubits, n_layers, generator=generator, **options)


def draw_inputs(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "shape", [(3,), (1, 3), (5, 3), (2, 4, 3), (2, 1, 2, 3), (0, 3), (2, 0, 3)]
)
def test_leading_shapes(engine, shape):
    """Any leading shape, none and empty included, gives the rows one by one."""
    layer = make_layer(engine=engine)
    inputs = draw_inputs(*shape).requires_grad_()
    outputs = layer(inputs)
    assert outputs.shape == shape
    rows = [layer(row) for row in inputs.reshape(-1, 3)] if inputs.numel() else []
    expected = torch.stack(rows).view(shape) if rows else torch.empty(shape)
    torch.testing.assert_close(outputs, expected)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.shape == shape
    assert layer.weights.grad is not None
    assert bool(layer.weights.grad.any()) == bool(rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_non_contiguous_inputs(engine):
    layer = make_layer(engine=engine)
    inputs = draw_inputs(3, 4, 5).permute(1, 2, 0)
    assert not inputs.is_contiguous()
    torch.testing.assert_close(layer(inputs), layer(inputs.contiguous()))
    torch.testing.assert_close(layer(inputs[::2, 0]), layer(inputs[::2, 0].clone()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_sample_breaks_no_other(engine, value):
    layer = make_layer(5, engine=engine)
    inputs = draw_inputs(6, 5)
    broken = inputs.clone()
    broken[2, 1] = value
    broken.requires_grad_()
    outputs = layer(broken)
    others = [0, 1, 3, 4, 5]
    assert outputs[2].isnan().all()
    torch.testing.assert_close(outputs[others], layer(inputs)[others])
    outputs.sum().backward()
    assert broken.grad is not None
    assert broken.grad[others].isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_range(engine, dtype):
    layer = make_layer(dtype=dtype, engine=engine)
    outputs = layer(10 * draw_inputs(20, 3, dtype=dtype))
    assert layer.weights.dtype == outputs.dtype == dtype
    assert outputs.abs().max() <= 1 + 1e-6
    assert outputs.std() > 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_autocast_runs_in_the_dtype_of_the_weights(engine):
    layer = make_layer(engine=engine)
    inputs = draw_inputs(4, 3).bfloat16()
    expected = layer(inputs.float())
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer(inputs)
        state = layer.final_state(inputs)
    assert torch.equal(outputs, expected)
    assert state.dtype == torch.float32
    assert torch.equal(state, layer.final_state(inputs.float()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (0, 3)])
def test_final_state(engine, shape):
    layer = make_layer(engine=engine)
    inputs = draw_inputs(*shape)
    state = layer.final_state(inputs)
    assert state.shape == (*shape[:-1], 8)
    expected = make_layer(engine="statevector").final_state(inputs)
    torch.testing.assert_close(state, expected)
    signs = 1 - 2 * torch.tensor([[(b >> (2 - i)) & 1 for i in range(3)] for b in range(8)])
    torch.testing.assert_close(state.square() @ signs.float(), layer(inputs))


def test_state_dict_is_the_weights_alone():
    layer, other = make_layer(4, 3, seed=0), make_layer(4, 3, seed=1)
    assert {name: value.shape for name, value in layer.state_dict().items()} == {"weights": (3, 4)}
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    inputs = draw_inputs(5, 4)
    assert not torch.equal(layer(inputs), other(inputs))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer(inputs), other(inputs))


@pytest.mark.parametrize("shape", [(2, 4), (3, 5), (12,)])
def test_weights_of_another_shape_are_refused(shape):
    layer = make_layer(4, 3)
    model, before = torch.nn.Sequential(layer), layer.weights.detach().clone()
    message = f"0.weights has shape {shape}; allowed: (3, 4), (n_layers, n_qubits)"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.load_state_dict({"0.weights": torch.zeros(shape)})
    assert torch.equal(layer.weights, before)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2, 4), (6,), (2, 3, 1)])
def test_weights_of_another_shape_never_reach_an_engine(engine, shape):
    layer = make_layer(engine=engine)
    layer.weights = torch.nn.Parameter(torch.zeros(shape))
    message = f"weights has shape {shape}; allowed: (2, 3), (n_layers, n_qubits)"
    for run in (layer, layer.final_state):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(torch.zeros(4, 3))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_equal_and_separate(engine, duplicate):
    layer = make_layer(engine=engine)
    inputs = draw_inputs(5, 3)
    expected = layer(inputs)  # and whatever it caches, before it is copied
    twin = duplicate(layer)
    with torch.no_grad():
        layer.weights.add_(1)
    assert torch.equal(twin(inputs), expected)
    assert repr(twin) == repr(layer)


def test_weights_come_from_the_generator():
    state = torch.get_rng_state()
    assert torch.equal(make_layer(seed=4).weights, make_layer(seed=4).weights)
    assert not torch.equal(make_layer(seed=4).weights, make_layer(seed=5).weights)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(make_layer(20, 100, init_std=0.3).weights.std() - 0.3) < 0.02


@pytest.mark.parametrize("n_qubits", [2, 3, 8])
@pytest.mark.parametrize("entangler", ["ring", "chain", "none"])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_every_weight_learns_from_the_start(n_qubits, entangler, scale):
    """Even at inputs of 0, where weights of 0 would have no gradient at all."""
    layer = make_layer(n_qubits, 3, entangler=entangler, dtype=torch.float64)
    outputs = layer(scale * draw_inputs(n_qubits, dtype=torch.float64))
    jacobian = [
        torch.autograd.grad(output, layer.weights, retain_graph=True)[0].abs() for output in outputs
    ]
    assert torch.stack(jacobian).amax(0).min() > 1e-4


def test_learns():
    """A layer recovers the outputs of another that started elsewhere."""
    teacher, student = make_layer(4, 2, seed=1, init_std=1.0), make_layer(4, 2, seed=2)
    inputs = 3 * draw_inputs(64, 4)
    targets = teacher(inputs).detach()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        loss = (student(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100


@pytest.mark.parametrize("name", ENGINES)
def test_repr_says_which_engine_runs(name):
    layer = make_layer(6, 3, engine=name)
    assert "n_qubits=6, n_layers=3, entangler='ring', reupload=False, engine=" in repr(layer)
    assert f"engine='{name}'" in repr(layer)


def spied_engines(monkeypatch) -> list[str]:
    """Names of the engines in the order in which they run from now on."""
    ran = []
    for name, load in layer_module._ENGINES.items():
        engine = load()

        def spy(*arguments, name=name, run=engine.expectations):
            ran.append(name)
            return run(*arguments)

        monkeypatch.setattr(engine, "expectations", spy)
    return ran


def test_auto_is_native_on_the_cpu(monkeypatch):
    layer = make_layer(7, 3)
    ran = spied_engines(monkeypatch)
    for batch in (1, 1000):
        layer(draw_inputs(batch, 7))
    assert ran == ["native", "native"]
    assert "engine='auto' (native on the CPU, else statevector, dense from batch 512)" in repr(
        layer
    )


def test_auto_picks_a_torch_engine_by_size_of_the_batch_elsewhere():
    layer = make_layer(7, 3)
    assert layer.engine_for(511, "cuda") == "statevector"
    assert layer.engine_for(512, "cuda") == "dense"
    assert make_layer(11).engine_for(10**6, "cuda") == "statevector"


@pytest.mark.parametrize(
    ("options", "on_cpu", "elsewhere"),
    [
        ({"n_qubits": 8, "n_layers": 3}, "native", "statevector"),
        ({"n_qubits": 9, "n_layers": 3}, "native", "statevector"),
        ({"n_qubits": 10, "n_layers": 3}, "tensor_network", "statevector"),
        ({"n_qubits": 12, "n_layers": 5}, "native", "statevector"),
        ({"n_qubits": 8, "n_layers": 4, "entangler": "chain"}, "native", "statevector"),
        ({"n_qubits": 9, "n_layers": 4, "entangler": "chain"}, "tensor_network", "statevector"),
        ({"n_qubits": 3, "n_layers": 2, "entangler": "none"}, "tensor_network", "statevector"),
        ({"n_qubits": 7, "reupload": True}, "tensor_network", "statevector"),
        ({"n_qubits": 7, "n_layers": 7, "reupload": True}, "statevector", "statevector"),
        ({"n_qubits": 512, "n_layers": 6}, "tensor_network", "tensor_network"),
        ({"n_qubits": 20, "n_layers": 8}, "native", "statevector"),
    ],
)
def test_auto_picks_the_quicker_engine(options, on_cpu, elsewhere):
    layer = make_layer(**options)
    assert layer.engine_for(1000) == on_cpu
    assert layer.engine_for(1, "cuda") == elsewhere
    assert f"engine='auto' ({on_cpu}" in repr(layer)
    assert elsewhere in repr(layer)


def test_auto_runs_what_no_state_can_hold(monkeypatch):
    layer = make_layer(40, 3, reupload=True)
    ran = spied_engines(monkeypatch)
    assert layer(draw_inputs(2, 40)).abs().max() <= 1
    assert ran == ["tensor_network"]
    with pytest.raises(ValueError, match="n_qubits=40 is too large for engine='statevector'"):
        layer.final_state(draw_inputs(2, 40))


CONSTRUCTION_ERRORS = [
    (
        {"engine": "gpu"},
        ValueError,
        "engine='gpu' is unknown; allowed: auto, native, dense, statevector, tensor_network, "
        "pennylane",
    ),
    ({"entangler": "star"}, ValueError, "entangler='star' is unknown; allowed: ring, chain, none"),
    ({"n_qubits": 0}, ValueError, "n_qubits=0 is out of range"),
    ({"n_layers": -1}, ValueError, "n_layers=-1 is out of range"),
    (
        {"dtype": torch.bfloat16},
        TypeError,
        "dtype is torch.bfloat16; allowed: torch.float32, torch.float64",
    ),
    ({"init_std": -1.0}, ValueError, "init_std=-1.0 is out of range"),
    ({"init_std": float("nan")}, ValueError, "init_std=nan is out of range"),
    (
        {"engine": "dense", "reupload": True},
        ValueError,
        "there is no matrix to share; use engine='statevector'",
    ),
    (
        {"engine": "dense", "n_qubits": 11},
        ValueError,
        "n_qubits=11 is too large for engine='dense': its matrix takes 16 MiB in float32; "
        "allowed: 1 to 10; use engine='statevector'",
    ),
    (
        {"engine": "pennylane", "n_qubits": 21},
        ValueError,
        "each gate keeps a state of 32 MiB per sample; allowed: 1 to 20; use engine='statevector'",
    ),
    ({"engine": "statevector", "n_qubits": 30}, ValueError, "one float32 state takes 4 GiB"),
    (
        {"engine": "statevector", "n_qubits": 22, "n_layers": 100},
        ValueError,
        "n_layers=100 is too many for engine='statevector' at n_qubits=22: training keeps 10.9 GiB "
        "of states a sample, allowed: 4; use fewer layers",
    ),
    (
        {"n_qubits": 24, "n_layers": 100},
        ValueError,
        "is 4^99, allowed: 1024; use fewer layers: no other engine holds this circuit",
    ),
    (
        {"n_qubits": 100, "n_layers": 7},
        ValueError,
        "n_layers=7 is too many for engine='tensor_network': the bond dimension of "
        "entangler='ring' is 4^6, allowed: 1024; use fewer layers",
    ),
    (
        {"engine": "tensor_network", "n_qubits": 10, "n_layers": 10, "entangler": "chain"},
        ValueError,
        "is 2^9, allowed: 256; use engine='statevector'",
    ),
    (
        {"n_qubits": 512, "n_layers": 9, "entangler": "chain"},
        ValueError,
        "n_layers=9 is too many for engine='tensor_network' at n_qubits=512: it keeps about",
    ),
    ({"init": "zero"}, ValueError, "init='zero' is unknown; allowed: identity, local"),
    ({"init": "local", "n_layers": 1}, ValueError, "init='local' needs n_layers of at least 2"),
]


@pytest.mark.parametrize(("options", "error", "message"), CONSTRUCTION_ERRORS)
def test_construction_refuses(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        QuantumLayer(**options)


INPUT_ERRORS = [
    (torch.zeros(4), ValueError, "inputs has shape (4,); allowed: (..., 3)"),
    (torch.zeros(3, 1), ValueError, "inputs has shape (3, 1); allowed: (..., 3)"),
    (torch.tensor(1.0), ValueError, "inputs has shape (); allowed: (..., 3)"),
    (
        torch.zeros(2, 3, dtype=torch.int64),
        TypeError,
        "inputs has dtype torch.int64; allowed: torch.float32",
    ),
    (torch.zeros(2, 3, dtype=torch.float64), TypeError, "inputs has dtype torch.float64"),
    (torch.zeros(2, 3, dtype=torch.float16), TypeError, "inputs has dtype torch.float16"),
    (torch.zeros(2, 3, dtype=torch.bfloat16), TypeError, "inputs has dtype torch.bfloat16"),
    (torch.zeros(2, 3, dtype=torch.complex64), TypeError, "inputs has dtype torch.complex64"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("inputs", "error", "message"), INPUT_ERRORS)
def test_inputs_refused(engine, inputs, error, message):
    layer = make_layer(engine=engine)
    for run in (layer, layer.final_state):
        with pytest.raises(error, match=re.escape(message)):
            run(inputs)


def test_half_precision_weights_refused():
    layer = make_layer().bfloat16()
    with pytest.raises(TypeError, match=r"weights is torch.bfloat16; allowed: torch.float32"):
        layer(torch.zeros(2, 3, dtype=torch.bfloat16))


def test_import_leaves_pennylane_alone():
    """It takes seconds to import, and only its own engine needs it."""
    code = """
import importlib.util, sys, torch
from quantum_hybrid.circuit import QuantumLayer
QuantumLayer(3, 2)(torch.zeros(2, 3))
assert importlib.util.find_spec("pennylane")
assert "pennylane" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
