"""Who takes part, and in what: data."""

from __future__ import annotations

from pathlib import Path

from benchmarks.job import Size
from benchmarks.program import Program

_HERE = Path(__file__).parent

ENGINES = {
    Size(8, 3, 1): ("native", "dense", "statevector"),
    Size(8, 3, 32): ("native", "dense", "statevector"),
    Size(8, 3, 256): ("native", "dense", "statevector"),
    Size(8, 3, 1024): ("native", "dense", "statevector"),
    Size(8, 3, 4096): ("native", "dense", "statevector"),
    Size(12, 3, 256): ("tensor_network", "native", "statevector"),
    Size(16, 3, 32): ("tensor_network", "native", "statevector"),
    Size(16, 5, 32): ("native", "tensor_network", "statevector"),
    Size(20, 3, 4): ("tensor_network", "native", "statevector"),
    Size(100, 3, 32): ("tensor_network",),
}
"""Ours at each size. The first is what the goals count: the one that ``engine="auto"`` takes."""

LARGEST_OF_PEERS = 20
"""Qubits: a statevector of 100 is out of anyone's reach."""

MATMUL = Program("1024^3 matrix product", _HERE / "matmul.py", packages=("torch",))


def engine(name: str) -> Program:
    """One of ours."""
    packages = ("quantum-hybrid-lm", "torch", "numba", "numpy")
    return Program(f"ours, {name}", _HERE / "ours.py", (name,), packages)


def _peer(name: str, script: str, environment: str, *packages: str) -> Program:
    path = _HERE / "peers" / f"{script}.py"
    return Program(name, path, (), (*packages, "numpy"), environment)


PENNYLANE = _peer("PennyLane default.qubit", "pennylane", "pennylane", "pennylane", "torch")
PEERS = {
    "pennylane": PENNYLANE,
    "lightning": _peer(
        "PennyLane lightning.qubit",
        "lightning",
        "pennylane",
        "pennylane",
        "pennylane_lightning",
        "torch",
    ),
    "torchquantum": _peer("TorchQuantum", "torchquantum", "torchquantum", "torchquantum", "torch"),
    "tensorcircuit": _peer(
        "TensorCircuit-NG", "tensorcircuit", "tensorcircuit", "tensorcircuit-ng", "jax"
    ),
    "deepquantum": _peer("DeepQuantum", "deepquantum", "deepquantum", "deepquantum", "torch"),
    "pyqtorch": _peer("pyqtorch", "pyqtorch", "pyqtorch", "pyqtorch", "torch"),
    "qulacs": _peer("Qulacs (float64)", "qulacs", "qulacs", "qulacs"),
}
