"""The CPU engine for training: compiled by Numba, gradients by the adjoint method.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. Here is what surrounds the kernel (``kernel``, ``lanes``):

- The angles of later layers are brought into [-pi/2, pi/2], where the tangent of half of them is at
  most 1 and rotations in tangent form lose nothing. RY(theta +- pi) is RY(theta) times Y but for
  the sign of the state, and Y moves through the rest of the circuit as in Clifford simulation
  (Aaronson & Gottesman 2004, arXiv:quant-ph/0406196): it turns the sign of some later angles and
  outputs.
- Samples are dealt out in chunks to threads, one for each of ``torch.get_num_threads()``. What a
  chunk is does not depend on the threads, so neither does any digit of the result.

Only first derivatives: a second one is refused when it is asked for.
"""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import kernel
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.lanes import CHAIN_EVEN, RING_EVEN, ROW_BYTES, STRAIGHT

MAX_QUBITS = 24
MAX_WORK_BYTES = 2 * 2**30
"""Of one thread, in float32."""
LANES_HOLD_QUBITS_FROM = 12
"""From here on a lane is part of one sample's state: 16 states together would leave the caches."""
CHUNK_AMPLITUDES = 2**17
"""Amplitudes times layers that a thread takes at a time: some 50 microseconds."""
SMALLEST_SCALE = 2.0**-60
"""Least factor that a float32 state is scaled by at once."""

_local = threading.local()


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
            f"{size_gib:.4g} GiB; allowed: 1 to {MAX_QUBITS}, and no other engine holds more"
        )
    n_groups = -(-ansatz.n_qubits // kernel.MAX_GROUP)
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
    return _expectations(inputs, weights, ansatz.entangler)


@torch.library.custom_op("quantum_hybrid::expectations", mutates_args=())
def _expectations(inputs: Tensor, weights: Tensor, entangler: str) -> Tensor:
    job = _Job(inputs, weights, entangler)
    outputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    job.run(kernel.forward, kernel.scalars_forward(job.plan), lambda _: (outputs.numpy(),))
    return outputs


@_expectations.register_fake
def _(inputs: Tensor, weights: Tensor, entangler: str) -> Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


@torch.library.custom_op("quantum_hybrid::expectations_backward", mutates_args=())
def _gradients(
    grad_outputs: Tensor, inputs: Tensor, weights: Tensor, entangler: str
) -> tuple[Tensor, Tensor]:
    job = _Job(inputs, weights, entangler)
    grad_inputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    by_angle = np.zeros((job.n_chunks, job.tangents.size))
    cotangent = grad_outputs.contiguous().numpy()
    job.run(
        kernel.backward,
        kernel.scalars_backward(job.plan),
        lambda chunk: (grad_inputs.numpy(), by_angle[chunk], cotangent),
    )
    later = torch.from_numpy(by_angle.sum(0).reshape(-1, job.plan.n_qubits) * job.angle_signs)
    # The first rotations' angles are added to the inputs.
    return grad_inputs, torch.cat([grad_inputs.sum(0, keepdim=True), later.to(weights.dtype)])


@_gradients.register_fake
def _(
    grad_outputs: Tensor, inputs: Tensor, weights: Tensor, entangler: str
) -> tuple[Tensor, Tensor]:
    like = torch.contiguous_format
    return (
        torch.empty_like(inputs, memory_format=like),
        torch.empty_like(weights, memory_format=like),
    )


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.entangler = inputs[2]


def _differentiate(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
    inputs, weights = ctx.saved_tensors
    return *_gradients(grad_outputs, inputs, weights, ctx.entangler), None


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(
        "a second derivative is not for engine='native'; use engine='statevector' or 'dense'"
    )


_expectations.register_autograd(_differentiate, setup_context=_keep)
_gradients.register_autograd(_refuse)


class _Job:
    """One call of the kernel: its plan, its angles, and its samples in chunks."""

    def __init__(self, inputs: Tensor, weights: Tensor, entangler: str) -> None:
        n_layers, n_qubits = weights.shape
        ansatz = Ansatz(n_qubits, n_layers, entangler)
        self.plan = plan_of(ansatz, inputs.element_size())
        dtype = np.dtype(np.float32 if inputs.dtype == torch.float32 else np.float64)
        half = (inputs.detach() + weights.detach()[0]).mul_(0.5)
        self.cos, self.sin = half.cos().numpy(), half.sin().numpy()
        angles, self.angle_signs, output_signs = reduce_angles(
            ansatz, weights.detach()[1:].double().numpy()
        )
        self.tangents = np.tan(angles / 2).astype(dtype).reshape(-1)
        self.scales = _scales(np.cos(angles / 2).prod(1)).astype(dtype)
        self.signs = output_signs.astype(dtype)
        self.lane_signs = _lane_signs(ansatz, self.plan).astype(dtype)
        per_tile = 1 if self.plan.n_lane_qubits else self.plan.n_lanes
        self.n_tiles = -(-len(inputs) // per_tile)
        self.chunk = max(1, CHUNK_AMPLITUDES // (2**n_qubits * per_tile * n_layers))
        self.n_chunks = -(-self.n_tiles // self.chunk)

    def run(
        self, function: Callable[..., None], n_scalars: int, first: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """Call the kernel for every chunk; ``first`` gives a chunk's own leading arguments."""
        shared = (self.cos, self.sin, self.tangents, self.scales, self.signs, self.lane_signs)
        chunks = iter(range(self.n_chunks))

        def work() -> None:
            memory = _aligned(n_scalars, self.cos.dtype)
            for chunk in chunks:  # taking the next one is atomic
                start = chunk * self.chunk
                stop = min(start + self.chunk, self.n_tiles)
                function(*first(chunk), *shared, self.plan, start, stop, memory)

        helpers = min(torch.get_num_threads(), self.n_chunks) - 1
        futures = [_pool(os.getpid()).submit(work) for _ in range(helpers)]
        work()
        for future in futures:
            future.result()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Idle threads, of this process: a fork's child has none of its parent's."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "quantum-hybrid-native")


def _aligned(n_scalars: int, dtype: np.dtype) -> kernel.Floats:
    """This thread's memory, kept between calls; its contents are of no value."""
    n_bytes = n_scalars * dtype.itemsize
    kept = getattr(_local, "memory", None)
    if kept is None or len(kept) < n_bytes + ROW_BYTES:
        kept = _local.memory = np.empty(n_bytes + ROW_BYTES, np.uint8)
    start = -kept.ctypes.data % ROW_BYTES
    return kept[start : start + n_bytes].view(dtype)


def reduce_angles(ansatz: Ansatz, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles in [-pi/2, pi/2] of a circuit with the same outputs, up to the signs returned.

    ``angles`` are those of layers 1 to L - 1, ``(L - 1, n)``. Returns the new ones, the sign of
    each one's derivative ``(L - 1, n)``, and the sign of each output ``(n,)``.
    """
    reduced, signs = np.empty_like(angles), np.empty_like(angles)
    x, z = np.zeros((2, ansatz.n_qubits), dtype=bool)
    for layer, row in enumerate(angles):
        signs[layer] = np.where(x ^ z, -1.0, 1.0)  # X and Z turn an RY around, Y does not
        turned = np.remainder(signs[layer] * row + math.pi, 2 * math.pi) - math.pi
        far = np.abs(turned) > math.pi / 2
        reduced[layer] = turned - np.where(far, np.copysign(math.pi, turned), 0.0)
        x, z = x ^ far, z ^ far
        if layer < len(angles) - 1:
            for control, target in ansatz.cnots:
                x[target] ^= x[control]
                z[control] ^= z[target]
    flipped = [bool(x[list(qubits)].sum() % 2) for qubits in ansatz.readout]
    return reduced, signs, np.where(flipped, -1.0, 1.0)


def _scales(cosines: np.ndarray) -> np.ndarray:
    """What the states are scaled by, ``(L,)``, for the products of each later layer's cosines.

    Rotations in tangent form make a state longer. It is made shorter beforehand, by the cosines of
    as many layers as leave it within the range of float32.
    """
    scales = np.ones(len(cosines) + 1)
    start = 0
    for layer, cosine in enumerate(cosines):
        if scales[start] * cosine < SMALLEST_SCALE:
            start = layer
        scales[start] *= cosine
    return scales


@lru_cache(maxsize=32)
def plan_of(ansatz: Ansatz, itemsize: int) -> kernel.Plan:
    """The kernel's plan for floats of this size."""
    n, n_lanes = ansatz.n_qubits, ROW_BYTES // itemsize
    in_lanes = n_lanes.bit_length() - 1 if n >= LANES_HOLD_QUBITS_FROM else 0
    n_rows = n - in_lanes
    sizes = _group_sizes(n_rows)
    starts = [sum(sizes[:group]) for group in range(len(sizes))]
    shifts = [n_rows - start - size for start, size in zip(starts, sizes, strict=True)]
    images = np.zeros((len(sizes), kernel.MAX_GROUP), dtype=np.int64)
    bases, offsets = [], []
    for group, (size, shift) in enumerate(zip(sizes, shifts, strict=True)):
        outer = np.arange(2 ** (n_rows - size))
        offsets.append(sum(map(len, bases)))
        bases.append((outer >> shift << shift + size) | (outer & 2**shift - 1))
        for bit in range(size):
            row = 1 << shift + bit
            images[group, bit] = _source(ansatz, row << in_lanes) >> in_lanes if group == 0 else row
    all_bases = np.concatenate(bases)
    sources = np.zeros_like(all_bases)
    for bit in range(n_rows):
        row = _source(ansatz, 1 << bit + in_lanes) >> in_lanes
        sources ^= np.where(all_bases >> bit & 1, row, 0)
    parities = np.array([_parity_bits(ansatz, qubits) for qubits in ansatz.readout]) >> in_lanes
    crossings = {"none": STRAIGHT, "chain": CHAIN_EVEN, "ring": RING_EVEN}
    return kernel.Plan(
        n_qubits=n,
        n_layers=ansatz.n_layers,
        n_lanes=n_lanes,
        n_lane_qubits=in_lanes,
        crossing=crossings[ansatz.entangler] if in_lanes else STRAIGHT,
        group_start=np.array(starts),
        group_size=np.array(sizes),
        group_shift=np.array(shifts),
        group_offset=np.array(offsets),
        bases=all_bases,
        sources=sources,
        images=images.reshape(-1),
        parity_low=parities & 2 ** sizes[-1] - 1,
        parity_high=parities >> sizes[-1],
    )


def _group_sizes(n: int) -> list[int]:
    """Groups of up to four: as even as may be, but the first and the last as large as may be."""
    count = -(-n // kernel.MAX_GROUP)
    if count <= 2:
        return sorted([n // count + (i < n % count) for i in range(count)])
    middle = n - 2 * kernel.MAX_GROUP
    return [
        kernel.MAX_GROUP,
        *(middle // (count - 2) + (i < middle % (count - 2)) for i in range(count - 2)),
        kernel.MAX_GROUP,
    ]


def _source(ansatz: Ansatz, index: int) -> int:
    """The basis state that the entangler takes to ``index``."""
    last = ansatz.n_qubits - 1
    for control, target in reversed(ansatz.cnots):
        index ^= (index >> last - control & 1) << last - target
    return index


def _parity_bits(ansatz: Ansatz, qubits: tuple[int, ...]) -> int:
    return sum(1 << ansatz.n_qubits - 1 - qubit for qubit in qubits)


@lru_cache(maxsize=32)
def _lane_signs_of(ansatz: Ansatz, n_lanes: int) -> np.ndarray:
    masks = [_parity_bits(ansatz, qubits) & n_lanes - 1 for qubits in ansatz.readout]
    return np.array(
        [[1.0 - 2 * ((lane & m).bit_count() & 1) for lane in range(n_lanes)] for m in masks]
    )


def _lane_signs(ansatz: Ansatz, plan: kernel.Plan) -> np.ndarray:
    """Sign of each lane in each output, ``(n, lanes)``; all 1 when the lanes are samples."""
    if plan.n_lane_qubits == 0:
        return np.ones((plan.n_qubits, plan.n_lanes))
    return _lane_signs_of(ansatz, plan.n_lanes)
