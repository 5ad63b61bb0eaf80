"""The CPU engine for training: compiled by Numba, gradients by the adjoint method.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. ``kernel`` computes both the outputs and the gradients, on several threads;
``first_order`` makes the two a function that torch differentiates.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from quantum_hybrid.circuit import first_order, statevector
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.native import kernel
from quantum_hybrid.circuit.native.angles import rotations_of
from quantum_hybrid.circuit.native.passes import Passes, Work, passes_of, work_of
from quantum_hybrid.compiled.layout import LAYOUTS
from quantum_hybrid.compiled.threads import run_on_threads

MAX_QUBITS = 24
MAX_WORK_BYTES = 2 * 2**30
"""Largest memory of one thread, for float32."""
CHUNK_AMPLITUDES = 2**16
"""Amplitudes times layers that a thread takes at a time."""
THREAD_AMPLITUDES = 2**18
"""Amplitudes times layers for each thread after the first. Waking a thread costs about 0.09 ms of a
forward and a backward pass. At n = 8, L = 3, 256 samples took 0.38 ms on one thread and 0.40 on
two, 512 took 0.59 and 0.49, 1,024 took 0.97 and 0.70 (docs/log.md)."""


def check(ansatz: Ansatz) -> None:
    """Refuse a circuit that does not fit or is not supported, before anything is allocated.

    Raises:
        ValueError: the circuit re-uploads, has too many qubits, or needs too much memory.
    """
    if ansatz.reupload:
        raise ValueError(
            "reupload=True is not supported by engine='native', which encodes once; use "
            "engine='statevector'"
        )
    if ansatz.n_qubits > MAX_QUBITS:
        size_gib = 2.0 ** (ansatz.n_qubits + 2 - 30)
        raise ValueError(
            f"n_qubits={ansatz.n_qubits} is too large for engine='native': one float32 state takes "
            f"{size_gib:.4g} GiB; allowed: 1 to {MAX_QUBITS}; use engine='tensor_network', which "
            "holds no state"
        )
    # The largest need of any layout, not of this processor's: a layer that one machine accepts is
    # accepted on all, and a checkpoint loads everywhere.
    size = max(4 * work_of(ansatz, 4, layout).backward for layout in LAYOUTS)
    if size > MAX_WORK_BYTES:
        raise ValueError(
            f"n_layers={ansatz.n_layers} is too many for engine='native' at n_qubits="
            f"{ansatz.n_qubits}: it keeps up to {size / 2**30:.1f} GiB a thread, allowed: "
            f"{MAX_WORK_BYTES / 2**30:.0f}; {statevector.or_fewer_layers(ansatz)}"
        )


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1].

    Raises:
        ValueError: inputs or weights are on another device than the CPU.
    """
    if not (inputs.is_cpu and weights.is_cpu):
        name, tensor = ("weights", weights) if inputs.is_cpu else ("inputs", inputs)
        raise ValueError(
            f"{name} is on {tensor.device}; allowed for engine='native': cpu; use "
            "engine='statevector' or 'dense'"
        )
    return first_order.expectations("native", ansatz, inputs, weights)


def compile_kernel() -> None:
    """Compile the kernel for float32 now instead of at the first call on this machine."""
    inputs, weights = torch.zeros(1, 2), torch.zeros(2, 2, requires_grad=True)
    expectations(Ansatz(2, 2), inputs, weights).sum().backward()


class _Call(NamedTuple):
    """The arguments of the kernel for one batch, forward and backward."""

    inputs: NDArray
    weights: NDArray
    rotations: tuple[NDArray, ...]
    """From `rotations_of`."""
    passes: Passes
    work: Work
    chunk_tiles: int
    """Tiles in a chunk. It does not depend on the number of threads."""
    n_chunks: int
    n_threads: int
    """Threads that are worth waking, at most."""

    def run(self) -> Tensor:
        outputs = np.empty_like(self.inputs)
        counters = np.zeros(2, np.int64)

        def work(memory: NDArray) -> None:
            kernel.forward(
                outputs,
                self.inputs,
                self.rotations,
                self.passes,
                self.chunk_tiles,
                counters,
                memory,
            )

        run_on_threads(work, self.n_threads, self.work.forward, outputs.dtype)
        return torch.from_numpy(outputs)

    def differentiate(self, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        cotangent = grad_outputs.detach().contiguous().numpy()
        grad_inputs, grad_weights = np.empty_like(self.inputs), np.zeros_like(self.weights)
        by_chunk = np.empty((self.n_chunks, self.weights.size))
        counters = np.zeros(2, np.int64)

        def work(memory: NDArray) -> None:
            kernel.backward(
                grad_inputs, grad_weights, by_chunk, cotangent, self.inputs, self.rotations,
                self.passes, self.chunk_tiles, counters, memory,
            )  # fmt: skip

        run_on_threads(work, self.n_threads, self.work.backward, cotangent.dtype)
        return torch.from_numpy(grad_inputs), torch.from_numpy(grad_weights)


def _prepare(inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> _Call:
    angles = inputs.detach().contiguous().numpy()
    passes = passes_of(ansatz, angles.dtype)
    per_tile = 1 if passes.n_lane_qubits else passes.n_lanes
    n_tiles = -(-len(angles) // per_tile)
    tile_amplitudes = 2**ansatz.n_qubits * per_tile * ansatz.n_layers
    chunk_tiles = max(1, CHUNK_AMPLITUDES // tile_amplitudes)
    n_threads = 1 + n_tiles * tile_amplitudes // THREAD_AMPLITUDES
    n_chunks = -(-n_tiles // chunk_tiles)
    layers = weights.detach().contiguous().numpy()
    rotations = rotations_of(layers, passes.cnots)
    n_threads = min(n_threads, n_chunks)
    work = work_of(ansatz, angles.itemsize)
    return _Call(angles, layers, rotations, passes, work, chunk_tiles, n_chunks, n_threads)


first_order.register("native", _prepare)
