"""What torch's own tools do with the layer: compile, export, ONNX, data-parallel training.

Each runs in a process of its own: the checks of shapes that tests run with are no part of the code
that is traced.
"""

import subprocess
import sys

import pytest

CASES = """
import io
import torch
from quantum_hybrid.circuit import QuantumLayer

inputs = torch.linspace(-2, 2, 40).view(8, 5)
cases = [("native", False), ("dense", False), ("statevector", False), ("statevector", True),
         ("tensor_network", False), ("tensor_network", True)]

def make(engine, reupload):
    return QuantumLayer(5, 2, engine=engine, reupload=reupload)

def gradients(function, layer):
    x = inputs.clone().requires_grad_()
    return torch.autograd.grad(function(x).square().sum(), (x, layer.weights))
"""

HANGS_S = 1800.0
"""Nothing takes as long that comes to an end, on a machine of one busy core neither."""


def run(code: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CASES + code, *arguments],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_every_engine_compiles_into_one_graph():
    """Also with an input that needs the leading dimensions flattened."""
    run("""
for case in cases:
    layer = make(*case)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(inputs), layer(inputs))
    if not layer.ansatz.reupload:  # another shape is another graph, and takes as long again
        torch.testing.assert_close(compiled(inputs[None]), layer(inputs[None]))
    for one, other in zip(gradients(compiled, layer), gradients(layer, layer)):
        torch.testing.assert_close(one, other)
""")


@pytest.mark.slow
def test_every_engine_exports_for_any_batch():
    """And is none the worse for it: what tracing leaves behind once broke the next call."""
    run("""
for case in cases:
    layer = make(*case)
    program = torch.export.export(
        layer, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for module in (program.module(), torch.export.load(file).module()):
        for batch in (inputs[:3], inputs.repeat(50, 1)):
            torch.testing.assert_close(module(batch), layer(batch))
    gradients(layer, layer)
""")


@pytest.mark.slow
def test_the_torch_engines_run_in_onnxruntime(tmp_path):
    run(
        """
import sys
import onnxruntime

options = [{"engine": engine, "reupload": reupload} for engine, reupload in cases[1:]]
options.append({"engine": "tensor_network", "n_qubits": 30, "init": "local"})
options.append({"engine": "tensor_network", "entangler": "chain", "n_layers": 1})
for option in options:
    layer = QuantumLayer(**{"n_qubits": 5, "n_layers": 2} | option).eval()
    inputs = torch.linspace(-2, 2, 8 * layer.ansatz.n_qubits).view(8, -1)
    program = torch.onnx.export(
        layer, (inputs,), dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    program.save(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1])
    for batch in (inputs[:3], inputs.repeat(50, 1)):
        (outputs,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        torch.testing.assert_close(torch.from_numpy(outputs), layer(batch), rtol=1e-5, atol=1e-5)
""",
        str(tmp_path / "layer.onnx"),
    )


@pytest.mark.slow
def test_the_tensor_network_in_torch_compiles_and_exports():
    """As it runs on a GPU. Exported first: what tracing keeps would break the calls that follow."""
    run("""
from quantum_hybrid.circuit import Ansatz
from quantum_hybrid.circuit.tensor_network import plain_torch as transfer_torch

class Layer(torch.nn.Module):
    def __init__(self, ansatz):
        super().__init__()
        self.ansatz = ansatz
        weights = torch.linspace(-1, 1, ansatz.n_layers * ansatz.n_qubits)
        self.weights = torch.nn.Parameter(weights.view(ansatz.n_layers, ansatz.n_qubits))

    def forward(self, inputs):
        return transfer_torch.expectations(self.ansatz, inputs, self.weights)

batches = ({0: torch.export.Dim("batch")},)
for ansatz in (Ansatz(5, 2), Ansatz(5, 3, "chain", reupload=True), Ansatz(5, 1)):
    layer = Layer(ansatz)
    program = torch.export.export(layer, (inputs,), dynamic_shapes=batches)
    for batch in (inputs[:3], inputs.repeat(50, 1)):
        torch.testing.assert_close(program.module()(batch), layer(batch))
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for one, other in zip(gradients(compiled, layer), gradients(layer, layer)):
        torch.testing.assert_close(one, other)
""")


def test_the_engines_that_hold_a_state_take_part_in_function_transforms():
    """In reverse: ``torch.compile`` has no room for a function with a rule for forward mode. The
    compiled engines know ``torch.autograd`` alone."""
    run("""
x = inputs.double()
for case in cases[1:4]:
    layer = make(*case).double()
    expected = torch.autograd.functional.jacobian(layer, x)
    torch.testing.assert_close(torch.func.jacrev(layer)(x), expected)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
""")


def test_what_is_no_tensor_is_refused():
    run("""
for bad in ([[0.0] * 5], None, inputs.numpy()):
    try:
        make("native", False)(bad)
    except TypeError as error:
        assert str(error) == f"inputs is a {type(bad).__name__}; allowed: a torch.Tensor"
    else:
        raise AssertionError
""")


@pytest.mark.slow
def test_pennylane_is_left_out_of_the_graph():
    run("""
layer = make("pennylane", False)
torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(inputs), layer(inputs))
""")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "statevector"])
def test_two_processes_train_as_one(tmp_path, engine):
    """Each with half of the batch, gradients averaged by DistributedDataParallel over gloo."""
    run(
        """
import sys
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

def train(forward, layer, batch):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (forward(batch) - 0.3).square().mean().backward()
        optimizer.step()
    return layer.weights.detach()

def seeded(engine):
    return QuantumLayer(5, 2, engine=engine, generator=torch.Generator().manual_seed(0))

def work(rank, engine, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    layer, batch = seeded(engine), inputs.repeat(2, 1)
    weights = train(DistributedDataParallel(layer), layer, batch.chunk(2)[rank])
    expected = seeded(engine)
    torch.testing.assert_close(weights, train(expected, expected, batch))
    dist.destroy_process_group()

context = multiprocessing.get_context("fork")
children = [context.Process(target=work, args=(rank, *sys.argv[1:])) for rank in range(2)]
for child in children:
    child.start()
for child in children:
    child.join()
    assert child.exitcode == 0
""",
        engine,
        str(tmp_path / "rendezvous"),
    )
