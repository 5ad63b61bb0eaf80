"""Product states of a group of qubits, forward and backward, as Numba intrinsics.

Rows are those of ``compiled.vectors``, groups those of ``groups``.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from typing import Any

from numba import types
from numba.extending import intrinsic

from quantum_hybrid.circuit.native.groups import switch
from quantum_hybrid.compiled.vectors import MAX_GROUP, Rows, fma, following, integer

_I = types.int64
_SIZES = range(1, MAX_GROUP + 1)


@intrinsic
def expand(typing, k, dst, d0, src, s0, trig, q0):
    """dst rows d0 + j = src row s0 times the product state of k qubits from q0 on.

    trig rows 2 q and 2 q + 1: cosine and sine of half the angle of qubit q.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, tr = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 5))

        def emit(size: int) -> None:
            v = [into.load(args[4])]
            for pair in _trigs(builder, tr, args[6], size):
                v = [builder.fmul(x, y) for x in v for y in pair]
            out.store_all(following(builder, args[2], 2**size), v)

        switch(builder, args[0], _SIZES, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, _I, src, _I, trig, _I), codegen


@intrinsic
def contract(typing, k, dst, d0, src, s0, trig, q0, prefix, p0, gradients):
    """dst row d0 = inner product of src rows s0 + j and the product state of k qubits from q0 on.

    Row q of ``gradients`` gets added the same inner product with (cos, sin) of qubit q replaced by
    (-sin, cos), times the prefix row p0. That is the derivative by half the angle of the qubit.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, tr, pre, grad = (
            Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 5, 7, 9)
        )

        def emit(size: int) -> None:
            trigs = _trigs(builder, tr, args[6], size)
            # before[q]: the product state of the qubits before q, where v has those from q + 1 on
            # contracted already. So one sweep gives all derivatives.
            before = [[pre.load(args[8])]]
            for cos, sin in trigs[:-1]:
                before.append([builder.fmul(x, y) for x in before[-1] for y in (cos, sin)])
            v = into.load_all(following(builder, args[4], 2**size))
            slots = following(builder, args[6], size)
            for qubit in reversed(range(size)):
                cos, sin = trigs[qubit]
                halves = list(zip(v[::2], v[1::2], strict=True))
                total = grad.load(slots[qubit])
                for (low, high), weight in zip(halves, before[qubit], strict=True):
                    turned = builder.fsub(builder.fmul(cos, high), builder.fmul(sin, low))
                    total = fma(builder, weight, turned, total)
                grad.store(slots[qubit], total)
                v = [fma(builder, cos, low, builder.fmul(sin, high)) for low, high in halves]
            out.store(args[2], v[0])

        switch(builder, args[0], _SIZES, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, _I, src, _I, trig, _I, prefix, _I, gradients), codegen


def _trigs(builder: Any, trig: Rows, qubit: Any, k: int) -> list[tuple[Any, Any]]:
    """Cosine and sine of ``k`` qubits from ``qubit`` on."""
    rows = trig.load_all(following(builder, builder.shl(qubit, integer(1)), 2 * k))
    return list(zip(rows[::2], rows[1::2], strict=True))
