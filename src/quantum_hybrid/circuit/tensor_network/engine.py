"""The engine for many qubits: exact, at a cost linear in n.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. A few layers of a ring or a chain of CNOTs are a matrix-product operator of
small bond dimension, so the circuit is contracted qubit by qubit (Markov & Shi 2008,
arXiv:quant-ph/0511069; Vidal 2003, arXiv:quant-ph/0301063). ``transfer`` makes the tables,
docs/circuit.md derives them. Each further layer of a ring multiplies the cost by 16, of a chain by
4.

CPU tensors run in a kernel that Numba compiles (``kernel``), with gradients by the adjoint method
and no second derivative. Tensors on other devices run in plain torch (``plain_torch``). So does an
exported graph, which can then be run without this package.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import first_order, statevector
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.tensor_network import (
    kernel as transfer_kernel,
)
from quantum_hybrid.circuit.tensor_network import (
    plain_torch as transfer_torch,
)
from quantum_hybrid.circuit.tensor_network.network import ROW_BYTES, Network, network_of
from quantum_hybrid.compiled.threads import run_on_threads

CHUNK_PRODUCTS = 2**16
"""Products of rows that a thread takes at a time, about 150 microseconds."""

MAX_BOND = {"ring": 1024, "chain": 256, "none": 1}
"""Largest bond dimension. There, 32 samples of 100 qubits take 17 s (ring) or 4 s (chain) on a busy
core, forward and backward. A ring with one layer less takes 0.5 s."""

MAX_WORK_BYTES = 2 * 2**30
"""Largest memory of one thread, for float32."""


def check(ansatz: Ansatz) -> None:
    """Refuse a circuit that does not fit or takes too long, before anything is allocated.

    Raises:
        ValueError: there are too many layers.
    """
    if not ansatz.cnots:
        return
    base, largest = (4 if ansatz.entangler == "ring" else 2), MAX_BOND[ansatz.entangler]
    instead = statevector.or_fewer_layers(ansatz)
    if base ** (ansatz.n_layers - 1) > largest:
        raise ValueError(
            f"n_layers={ansatz.n_layers} is too many for engine='tensor_network': the bond "
            f"dimension of entangler={ansatz.entangler!r} is {base}^{ansatz.n_layers - 1}, "
            f"allowed: {largest}; {instead}"
        )
    at_qubit = 4 ** (ansatz.n_layers - 1) + 2 * 3**ansatz.n_layers
    size = at_qubit * ansatz.n_qubits * ROW_BYTES
    if size > MAX_WORK_BYTES:
        raise ValueError(
            f"n_layers={ansatz.n_layers} is too many for engine='tensor_network' at n_qubits="
            f"{ansatz.n_qubits}: it keeps about {size / 2**30:.1f} GiB a thread, allowed: "
            f"{MAX_WORK_BYTES / 2**30:.0f}; {instead}"
        )


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    on_cpu = inputs.device.type == "cpu" and weights.device.type == "cpu"
    if not on_cpu or not ansatz.cnots or torch.compiler.is_exporting():
        return transfer_torch.expectations(ansatz, inputs, weights)
    return first_order.expectations("tensor_network", ansatz, inputs, weights)


class _Call:
    """The arguments of the kernel for one batch, forward and backward."""

    def __init__(self, inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> None:
        self.ansatz = ansatz
        angles, later_angles = inputs.detach().numpy(), weights.detach().numpy()[1:, None, :]
        self.network = network_of(ansatz, angles.itemsize)
        first = np.add(angles, weights.detach().numpy()[0], order="C")
        later = np.ascontiguousarray(later_angles + angles if ansatz.reupload else later_angles)
        with np.errstate(invalid="ignore"):  # the cosine of an infinity is NaN, as intended
            self.trig = [function(x) for x in (first, later) for function in (np.cos, np.sin)]
            # An output may not depend on every input. Adding this makes all outputs of a sample
            # NaN if one of its inputs is not finite.
            self.broken = (0 * angles).sum(1, keepdims=True)
        self.n_tiles = -(-len(inputs) // self.network.n_lanes)
        self.chunk = max(1, CHUNK_PRODUCTS // n_products(self.network))

    def run(self) -> Tensor:
        outputs = np.empty_like(self.trig[0])
        self._run(transfer_kernel.forward, outputs)
        outputs += self.broken
        return torch.from_numpy(outputs)

    def differentiate(self, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        cotangent = np.ascontiguousarray(grad_outputs.detach().numpy())
        first = np.empty_like(cotangent)
        n_later, _, n_qubits = self.trig[2].shape
        n_rows = len(first) if self.ansatz.reupload else self.n_tiles
        later = np.empty((n_later, n_rows, n_qubits), first.dtype)
        self._run(transfer_kernel.backward, first, later, cotangent)
        by_weight = np.concatenate([first.sum(0, keepdims=True), later.sum(1)])
        by_input = first + later.sum(0) if self.ansatz.reupload else first
        return torch.from_numpy(by_input), torch.from_numpy(by_weight)

    def _run(self, function: Any, *own: np.ndarray) -> None:
        counters = np.zeros(1, np.int64)

        def work(memory: np.ndarray) -> None:
            function(*own, *self.trig, self.network, self.chunk, counters, memory)

        n_chunks = -(-self.n_tiles // self.chunk)
        run_on_threads(work, n_chunks, transfer_kernel.n_scalars(self.network), self.trig[0].dtype)


def n_products(network: Network) -> int:
    """Approximate number of products of rows in one tile's forward and backward pass."""
    n_sectors = len(network.prefix_sectors) + len(network.closing_sectors)
    per_sector = len(network.later_z.forward.stream) // 5
    return network.n_qubits * (4 * n_sectors * per_sector + 4 * network.n_coefficients)


first_order.register("tensor_network", _Call)
