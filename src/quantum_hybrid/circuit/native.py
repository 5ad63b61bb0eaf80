"""The CPU engine for training: compiled by Numba, gradients by the adjoint method.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. The work itself is done in ``kernel``, on several threads; ``first_order``
makes a function of it that torch can differentiate.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from quantum_hybrid.circuit import first_order, kernel
from quantum_hybrid.circuit.angles import gather, later_rotations
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.lanes import MAX_GROUP
from quantum_hybrid.circuit.plan import Plan, cnots_of, lane_signs_of, plan_of
from quantum_hybrid.circuit.threads import run_chunks

MAX_QUBITS = 24
MAX_WORK_BYTES = 2 * 2**30
"""Of one thread, in float32."""
CHUNK_AMPLITUDES = 2**20
"""Amplitudes times layers that a thread takes at a time at most: some 700 microseconds forward and
backward. A batch that is not more runs on one thread, because waking another took so long on the
two virtual cores where this was measured: 1,024 samples at (8, 3) took 0.76 ms on one thread and
0.7 to 0.96 on two (medians), 4,096 took 2.7 and 2.1."""


def check(ansatz: Ansatz) -> None:
    """Refuse what would not fit, or cannot be run, before anything is allocated."""
    if ansatz.reupload:
        raise ValueError(
            "reupload=True is not for engine='native', which encodes once; use engine='statevector'"
        )
    if ansatz.n_qubits > MAX_QUBITS:
        size_gib = 2.0 ** (ansatz.n_qubits + 2 - 30)
        raise ValueError(
            f"n_qubits={ansatz.n_qubits} is too large for engine='native': one float32 state takes "
            f"{size_gib:.4g} GiB; allowed: 1 to {MAX_QUBITS}; use engine='tensor_network', which "
            "holds none"
        )
    n_groups = -(-ansatz.n_qubits // MAX_GROUP)
    size = ((ansatz.n_layers - 1) * n_groups + 4) * 2**ansatz.n_qubits * 4
    if size > MAX_WORK_BYTES:
        raise ValueError(
            f"n_layers={ansatz.n_layers} is too many for engine='native' at n_qubits="
            f"{ansatz.n_qubits}: it keeps about {size / 2**30:.1f} GiB a thread, allowed: "
            f"{MAX_WORK_BYTES / 2**30:.0f}; use engine='statevector', which keeps less"
        )


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1].

    Raises:
        ValueError: inputs or weights are on another device than the CPU.
    """
    for name, tensor in (("inputs", inputs), ("weights", weights)):
        if tensor.device.type != "cpu":
            raise ValueError(
                f"{name} is on {tensor.device}; allowed for engine='native': cpu; use "
                "engine='statevector' or 'dense'"
            )
    return first_order.expectations("native", ansatz, inputs, weights)


def compile_kernel() -> None:
    """Have the kernel compiled for float32 now, rather than at the first call on this machine."""
    inputs, weights = torch.zeros(1, 2), torch.zeros(2, 2, requires_grad=True)
    expectations(Ansatz(2, 2), inputs, weights).sum().backward()


class _Call(NamedTuple):
    """What the kernel is called with, forward and backward."""

    plan: Plan
    arguments: tuple[Any, Any, Any, Any, Any, Any]
    """cos, sin, tangents, scales, signs, lane_signs; see `kernel.forward`."""
    angle_signs: NDArray[np.float64]
    """Sign of the derivative by each later angle, ``(L - 1, n)``."""
    tiles: tuple[range, ...]
    """Chunks of the samples; they do not depend on the number of threads."""

    def run(self) -> Tensor:
        outputs = np.empty_like(self.arguments[0])

        def work(chunk: int, memory: NDArray) -> None:
            tiles = self.tiles[chunk]
            kernel.forward(outputs, *self.arguments, self.plan, tiles.start, tiles.stop, memory)

        run_chunks(work, len(self.tiles), self.plan.scalars_forward(), outputs.dtype)
        return torch.from_numpy(outputs)

    def differentiate(self, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        cotangent = np.ascontiguousarray(grad_outputs.detach().numpy())
        grad_inputs = np.empty_like(cotangent)
        by_angle = np.zeros((len(self.tiles), self.angle_signs.size))

        def work(chunk: int, memory: NDArray) -> None:
            tiles = self.tiles[chunk]
            kernel.backward(
                grad_inputs, by_angle[chunk], cotangent, *self.arguments, self.plan, tiles.start,
                tiles.stop, memory,
            )  # fmt: skip

        run_chunks(work, len(self.tiles), self.plan.scalars_backward(), cotangent.dtype)
        grad_weights = gather(grad_inputs, by_angle, self.angle_signs)
        return torch.from_numpy(grad_inputs), torch.from_numpy(grad_weights)


def _prepare(inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> _Call:
    angles = weights.detach().numpy()
    half = np.add(inputs.detach().numpy(), angles[0], order="C")
    half *= 0.5
    with np.errstate(invalid="ignore"):  # an infinite angle gives NaN, as it should
        cos, sin = np.cos(half), np.sin(half)
    tangents, scales, signs, angle_signs = later_rotations(angles, cnots_of(ansatz))
    plan, lane_signs = plan_of(ansatz, half.itemsize), lane_signs_of(ansatz, half.dtype)
    per_tile = 1 if plan.n_lane_qubits else plan.n_lanes
    n_tiles = -(-len(cos) // per_tile)
    largest = max(1, CHUNK_AMPLITUDES // (2**ansatz.n_qubits * per_tile * ansatz.n_layers))
    step = -(-n_tiles // max(1, -(-n_tiles // largest)))  # all chunks alike
    tiles = tuple(range(at, min(at + step, n_tiles)) for at in range(0, n_tiles, max(1, step)))
    arguments = (cos, sin, tangents, scales, signs, lane_signs)
    return _Call(plan, arguments, angle_signs, tiles)


first_order.register("native", _prepare)
