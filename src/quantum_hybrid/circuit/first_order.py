"""An engine's compiled code as a function that torch differentiates once.

The engine registers a function that *prepares* a call: from inputs ``(batch, n)``, weights
``(layers, n)`` and an ansatz to an object that computes outputs and gradients. A direct call is an
autograd function. Under ``torch.compile`` and ``torch.export`` it is an operator, one node of the
graph; calling an operator takes longer than a small batch, so it is used nowhere else. Asking for a
second derivative raises a RuntimeError.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from quantum_hybrid.circuit.ansatz import Ansatz


@runtime_checkable
class Call(Protocol):
    """A call of the compiled code with given inputs and weights."""

    def run(self) -> Tensor:
        """Outputs ``(batch, n)``."""
        ...

    def differentiate(self, grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by the inputs and by the weights."""
        ...


Prepare = Callable[[Tensor, Tensor, Ansatz], Call]
_PREPARE: dict[str, Prepare] = {}


def register(engine: str, prepare: Prepare) -> None:
    """Register an engine under its name; an operator in a graph holds the name only."""
    _PREPARE[engine] = prepare


def expectations(engine: str, ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    """The engine's outputs ``(batch, n)``, differentiable once by inputs and weights."""
    if torch.compiler.is_compiling():
        return _expectations(inputs, weights, engine, ansatz.entangler, ansatz.reupload)
    if torch.is_grad_enabled() and (inputs.requires_grad or weights.requires_grad):
        return _Expectations.apply(inputs, weights, engine, ansatz)
    return _PREPARE[engine](inputs, weights, ansatz).run()


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, engine: str, ansatz: Ansatz) -> Tensor:
        ctx.engine, ctx.call = engine, _PREPARE[engine](inputs, weights, ansatz)
        ctx.save_for_backward(inputs, weights)
        return ctx.call.run()

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # torch raises an error here if one was modified in place
        if torch.is_grad_enabled():
            return *_Gradients.apply(grad_outputs, *saved, ctx.engine, ctx.call), None, None
        return *ctx.call.differentiate(grad_outputs), None, None


class _Gradients(torch.autograd.Function):
    """The gradients as part of a graph, so that a second derivative reaches `_refuse`."""

    @staticmethod
    def forward(
        ctx: Any, grad_outputs: Tensor, inputs: Tensor, weights: Tensor, engine: str, call: Call
    ) -> tuple[Tensor, Tensor]:
        ctx.engine = engine
        return call.differentiate(grad_outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _refuse(ctx, *gradients)


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(
        f"a second derivative is not supported by engine={ctx.engine!r} on the CPU; use "
        "engine='statevector', which takes up to 24 qubits"
    )


@torch.library.custom_op("quantum_hybrid::expectations", mutates_args=())
def _expectations(
    inputs: Tensor, weights: Tensor, engine: str, entangler: str, reupload: bool
) -> Tensor:
    return _PREPARE[engine](inputs, weights, _ansatz(weights, entangler, reupload)).run()


@torch.library.custom_op("quantum_hybrid::expectations_backward", mutates_args=())
def _gradients(
    grad_outputs: Tensor,
    inputs: Tensor,
    weights: Tensor,
    engine: str,
    entangler: str,
    reupload: bool,
) -> tuple[Tensor, Tensor]:
    call = _PREPARE[engine](inputs, weights, _ansatz(weights, entangler, reupload))
    return call.differentiate(grad_outputs)


def _ansatz(weights: Tensor, entangler: str, reupload: bool) -> Ansatz:
    n_layers, n_qubits = weights.shape
    return Ansatz(n_qubits, n_layers, entangler, reupload)


@_expectations.register_fake
def _(inputs: Tensor, weights: Tensor, *options: Any) -> Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


@_gradients.register_fake
def _(
    grad_outputs: Tensor, inputs: Tensor, weights: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    like = torch.contiguous_format
    return (
        torch.empty_like(inputs, memory_format=like),
        torch.empty_like(weights, memory_format=like),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.options = inputs[2:]


def _backward(ctx: Any, grad_outputs: Tensor) -> tuple[Any, ...]:
    return *_gradients(grad_outputs, *ctx.saved_tensors, *ctx.options), None, None, None


def _name(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.engine = inputs[3]


_expectations.register_autograd(_backward, setup_context=_keep)
_gradients.register_autograd(_refuse, setup_context=_name)
