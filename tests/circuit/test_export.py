"""What torch.export and ONNX do with the layer."""

import pytest

from unchecked_layers import run_unchecked


@pytest.mark.slow
def test_every_engine_exports_for_any_batch():
    """And is none the worse for it: what tracing leaves behind once broke the next call."""
    run_unchecked("""
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
    run_unchecked(
        """
import sys
import onnxruntime

options = [{"engine": engine, "reupload": reupload} for engine, reupload in cases[1:4]]
for more in (
    {"n_qubits": 3},
    {"n_qubits": 3, "reupload": True},
    {"n_qubits": 3, "entangler": "chain", "n_layers": 1},
    {"n_qubits": 25, "entangler": "chain", "init": "local"},  # one more than a state may have
):
    options.append({"engine": "tensor_network"} | more)
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
    run_unchecked("""
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
inputs = inputs[:, :3].contiguous()  # a first qubit, a last one and one between them
for ansatz in (Ansatz(3, 2), Ansatz(3, 3, "chain", reupload=True), Ansatz(3, 1)):
    layer = Layer(ansatz)
    program = torch.export.export(layer, (inputs,), dynamic_shapes=batches)
    for batch in (inputs[:3], inputs.repeat(50, 1)):
        torch.testing.assert_close(program.module()(batch), layer(batch))
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for one, other in zip(gradients(compiled, layer), gradients(layer, layer)):
        torch.testing.assert_close(one, other)
""")
