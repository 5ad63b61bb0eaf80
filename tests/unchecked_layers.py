"""Run code on circuit layers in a process of its own; a test helper.

The checks of shapes that tests run with are no part of the code that torch's tools trace.
"""

import subprocess
import sys

LAYERS = """
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
"""What the code may use. Five qubits are the fewest that the torch engines rotate in two blocks."""

HANGS_S = 1800.0
"""Nothing takes as long that comes to an end, on a machine of one busy core neither."""


def run_unchecked(code: str, *arguments: str) -> None:
    """Run the code after `LAYERS`, without the checks of shapes, and fail as it fails."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAYERS + code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
