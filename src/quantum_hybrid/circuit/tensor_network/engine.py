"""Exact for any number of qubits, at a cost that grows with n and not with 2**n.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. Few layers of a ring or a chain of CNOTs are a matrix-product operator of a
small bond, and so the circuit can be contracted qubit by qubit (Markov & Shi 2008,
arXiv:quant-ph/0511069; Vidal 2003, arXiv:quant-ph/0301063): ``transfer`` says how, docs/circuit.md
derives it. The cost is 16 times higher with each layer of a ring, 4 times with each of a chain.

CPU tensors run in a kernel that Numba compiles (``transfer_kernel``), with gradients by the adjoint
method and no second derivative; others run in plain torch (``transfer_torch``), and so does what is
exported: a file that only those who have this package can run would be of little use.
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
from quantum_hybrid.circuit.tensor_network.plan import ROW_BYTES, Plan, plan_of
from quantum_hybrid.compiled.threads import share

CHUNK_PRODUCTS = 2**16
"""Products of rows that a thread takes at a time: some 150 microseconds."""

MAX_BOND = {"ring": 1024, "chain": 256, "none": 1}
"""At these, 32 samples of 100 qubits take 17 s (ring) or 4 s (chain) on a busy core, forward and
backward; a ring of a layer less 0.5 s."""

MAX_WORK_BYTES = 2 * 2**30
"""Of one thread, in float32."""


def check(ansatz: Ansatz) -> None:
    """Refuse what would not fit, or takes too long, before anything is allocated."""
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
    """One call of the kernel: its plan, its angles, and its samples in chunks of tiles."""

    def __init__(self, inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> None:
        self.ansatz = ansatz
        angles, later_angles = inputs.detach().numpy(), weights.detach().numpy()[1:, None, :]
        self.plan = plan_of(ansatz, angles.itemsize)
        first = np.add(angles, weights.detach().numpy()[0], order="C")
        later = np.ascontiguousarray(later_angles + angles if ansatz.reupload else later_angles)
        with np.errstate(invalid="ignore"):  # the cosine of an infinity is meant to be NaN
            self.trig = [function(x) for x in (first, later) for function in (np.cos, np.sin)]
            # An output need not depend on all inputs, but a broken sample must not look sound.
            self.broken = (0 * angles).sum(1, keepdims=True)
        self.n_tiles = -(-len(inputs) // self.plan.n_lanes)
        self.chunk = max(1, CHUNK_PRODUCTS // n_products(self.plan))

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
            function(*own, *self.trig, self.plan, self.chunk, counters, memory)

        n_chunks = -(-self.n_tiles // self.chunk)
        share(work, n_chunks, transfer_kernel.n_scalars(self.plan), self.trig[0].dtype)


def n_products(plan: Plan) -> int:
    """Products of rows in one tile's forward and backward pass, about."""
    n_sectors = len(plan.prefix_sectors) + len(plan.closing_sectors)
    per_sector = len(plan.later_z.forward.stream) // 5
    return plan.n_qubits * (4 * n_sectors * per_sector + 4 * plan.n_coefficients)


first_order.register("tensor_network", _Call)
