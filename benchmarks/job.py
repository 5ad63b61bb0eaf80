"""What every program is given to do: one circuit layer, forward and backward, on one batch.

From angles ``inputs`` (batch, n) and ``weights`` (L, n) to the n Pauli-Z expectations of each
sample, and from a ``cotangent`` (batch, n), the gradient by those outputs, to the gradients by
inputs and weights. The circuit is the ring of ``quantum_hybrid.circuit.ansatz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


@dataclass(frozen=True, order=True)
class Size:
    """Of a job."""

    n_qubits: int
    n_layers: int
    batch: int

    def __str__(self) -> str:
        return f"{self.n_qubits},{self.n_layers},{self.batch}"


def write_job(size: Size, path: Path) -> None:
    """Write it as ``.npz``: angles from the whole circle and a normal cotangent, in float32."""
    generator = np.random.default_rng(SEED)
    shape = (size.batch, size.n_qubits)
    inputs = generator.uniform(-np.pi, np.pi, shape)
    weights = generator.uniform(-np.pi, np.pi, (size.n_layers, size.n_qubits))
    arrays = {"inputs": inputs, "weights": weights, "cotangent": generator.normal(size=shape)}
    single: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(path, **single)
