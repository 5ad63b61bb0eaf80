"""The CPU engine for training: compiled by Numba, gradients by the adjoint method.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
in float32 or float64. The work itself is done in ``kernel``; here it is made a function that torch
can differentiate, once: a second derivative is refused when it is asked for. Under ``torch.compile``
and ``torch.export`` the same functions are operators that stand as one node in the graph; called
directly, an operator would cost more than a small batch takes to run.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from quantum_hybrid.circuit import kernel
from quantum_hybrid.circuit.angles import reduce_angles, tangent_form
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
    return _Expectations.apply(inputs, weights, ansatz)


class _Call(NamedTuple):
    """What the kernel is called with, forward and backward."""

    plan: Plan
    arguments: tuple[Any, ...]
    """cos, sin, tangents, scales, signs, lane_signs; see `kernel.forward`."""
    angle_signs: NDArray[np.float64]
    """Sign of the derivative by each later angle, ``(L - 1, n)``."""
    tiles: tuple[range, ...]
    """Chunks of the samples; they do not depend on the number of threads."""


def _prepare(inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> _Call:
    half = (inputs.detach().contiguous() + weights.detach()[0]).mul_(0.5)
    cos, sin = half.cos().numpy(), half.sin_().numpy()
    reduced, angle_signs, output_signs = reduce_angles(weights.detach().numpy(), cnots_of(ansatz))
    tangents, scales = np.empty(reduced.size, cos.dtype), np.empty(ansatz.n_layers, cos.dtype)
    tangent_form(reduced, tangents, scales)
    plan = plan_of(ansatz, cos.itemsize)
    signs, lane_signs = output_signs.astype(cos.dtype), lane_signs_of(ansatz, cos.dtype)
    per_tile = 1 if plan.n_lane_qubits else plan.n_lanes
    n_tiles = -(-len(cos) // per_tile)
    step = max(1, CHUNK_AMPLITUDES // (2**ansatz.n_qubits * per_tile * ansatz.n_layers))
    tiles = tuple(range(at, min(at + step, n_tiles)) for at in range(0, n_tiles, step))
    return _Call(plan, (cos, sin, tangents, scales, signs, lane_signs), angle_signs, tiles)


def _run(call: _Call, inputs: Tensor) -> Tensor:
    outputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    written = outputs.numpy()

    def work(chunk: int) -> None:
        tiles = call.tiles[chunk]
        memory = scratch(call.plan.scalars_forward(), written.dtype)
        kernel.forward(written, *call.arguments, call.plan, tiles.start, tiles.stop, memory)

    for_each_chunk(len(call.tiles), work)
    return outputs


def _differentiate(call: _Call, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by the inputs and by the weights."""
    cotangent = grad_outputs.detach().contiguous().numpy()
    grad_inputs = torch.empty_like(grad_outputs, memory_format=torch.contiguous_format)
    written = grad_inputs.numpy()
    by_angle = np.zeros((len(call.tiles), call.angle_signs.size))

    def work(chunk: int) -> None:
        tiles = call.tiles[chunk]
        memory = scratch(call.plan.scalars_backward(), written.dtype)
        kernel.backward(
            written, by_angle[chunk], cotangent, *call.arguments, call.plan, tiles.start,
            tiles.stop, memory,
        )  # fmt: skip

    for_each_chunk(len(call.tiles), work)
    grad_weights = np.empty((call.plan.n_layers, call.plan.n_qubits), written.dtype)
    # The first rotations' angles are added to the inputs.
    grad_weights[0] = grad_inputs.sum(0).numpy()
    grad_weights[1:] = by_angle.sum(0).reshape(call.angle_signs.shape) * call.angle_signs
    return grad_inputs, torch.from_numpy(grad_weights)


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, ansatz: Ansatz) -> Tensor:
        ctx.call = _prepare(inputs, weights, ansatz)
        ctx.save_for_backward(inputs, weights)
        return _run(ctx.call, inputs)

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
    return _run(_prepare(inputs, weights, _ansatz(weights, entangler)), inputs)


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
