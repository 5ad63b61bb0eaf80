"""The CPU engine for training: compiled by Numba, gradients by the adjoint method.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. The work itself is done in ``kernel``; here it is made a function that torch
can differentiate, once: a second derivative is refused when it is asked for. Under
``torch.compile`` and ``torch.export`` the same functions are operators that stand as one node in
the graph; called directly, an operator would cost more than a small batch takes to run.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from quantum_hybrid.circuit import kernel
from quantum_hybrid.circuit.angles import gather, later_rotations
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.lanes import MAX_GROUP
from quantum_hybrid.circuit.plan import Plan, cnots_of, lane_signs_of, plan_of
from quantum_hybrid.circuit.threads import for_each_chunk, scratch

MAX_QUBITS = 24
MAX_WORK_BYTES = 2 * 2**30
"""Of one thread, in float32."""
CHUNK_AMPLITUDES = 2**17
"""Amplitudes times layers that a thread takes at a time: some 50 microseconds."""


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
    if torch.compiler.is_compiling():
        return _expectations(inputs, weights, ansatz.entangler)
    if torch.is_grad_enabled() and (inputs.requires_grad or weights.requires_grad):
        return _Expectations.apply(inputs, weights, ansatz)
    return _run(_prepare(inputs, weights, ansatz))


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
    step = max(1, CHUNK_AMPLITUDES // (2**ansatz.n_qubits * per_tile * ansatz.n_layers))
    tiles = tuple(range(at, min(at + step, n_tiles)) for at in range(0, n_tiles, step))
    return _Call(plan, (cos, sin, tangents, scales, signs, lane_signs), angle_signs, tiles)


def _run(call: _Call) -> Tensor:
    written = np.empty_like(call.arguments[0])

    def work(chunk: int) -> None:
        tiles = call.tiles[chunk]
        memory = scratch(call.plan.scalars_forward(), written.dtype)
        kernel.forward(written, *call.arguments, call.plan, tiles.start, tiles.stop, memory)

    for_each_chunk(len(call.tiles), work)
    return torch.from_numpy(written)


def _differentiate(call: _Call, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by the inputs and by the weights."""
    cotangent = np.ascontiguousarray(grad_outputs.detach().numpy())
    grad_inputs = np.empty_like(cotangent)
    by_angle = np.zeros((len(call.tiles), call.angle_signs.size))

    def work(chunk: int) -> None:
        tiles = call.tiles[chunk]
        memory = scratch(call.plan.scalars_backward(), cotangent.dtype)
        kernel.backward(
            grad_inputs, by_angle[chunk], cotangent, *call.arguments, call.plan, tiles.start,
            tiles.stop, memory,
        )  # fmt: skip

    for_each_chunk(len(call.tiles), work)
    grad_weights = gather(grad_inputs, by_angle, call.angle_signs)
    return torch.from_numpy(grad_inputs), torch.from_numpy(grad_weights)


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> Tensor:
        ctx.call = _prepare(inputs, weights, ansatz)
        ctx.save_for_backward(inputs, weights)
        return _run(ctx.call)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weights = ctx.saved_tensors  # torch complains here if one was changed meanwhile
        if torch.is_grad_enabled():
            return *_Gradients.apply(grad_outputs, inputs, weights, ctx.call), None
        return *_differentiate(ctx.call, grad_outputs), None


class _Gradients(torch.autograd.Function):
    """The gradients, as part of a graph that asks for a second derivative."""

    @staticmethod
    def forward(
        ctx: Any, grad_outputs: Tensor, inputs: Tensor, weights: Tensor, call: _Call
    ) -> tuple[Tensor, Tensor]:
        return _differentiate(call, grad_outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _refuse(ctx, *gradients)


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(
        "a second derivative is not for engine='native'; use engine='statevector' or 'dense'"
    )


@torch.library.custom_op("quantum_hybrid::expectations", mutates_args=())
def _expectations(inputs: Tensor, weights: Tensor, entangler: str) -> Tensor:
    return _run(_prepare(inputs, weights, _ansatz(weights, entangler)))


@torch.library.custom_op("quantum_hybrid::expectations_backward", mutates_args=())
def _gradients(
    grad_outputs: Tensor, inputs: Tensor, weights: Tensor, entangler: str
) -> tuple[Tensor, Tensor]:
    return _differentiate(_prepare(inputs, weights, _ansatz(weights, entangler)), grad_outputs)


def _ansatz(weights: Tensor, entangler: str) -> Ansatz:
    n_layers, n_qubits = weights.shape
    return Ansatz(n_qubits, n_layers, entangler)


@_expectations.register_fake
def _(inputs: Tensor, weights: Tensor, entangler: str) -> Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


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


def _backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
    inputs, weights = ctx.saved_tensors
    return *_gradients(grad_outputs, inputs, weights, ctx.entangler), None


_expectations.register_autograd(_backward, setup_context=_keep)
_gradients.register_autograd(_refuse)
