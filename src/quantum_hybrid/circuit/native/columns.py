"""Copies between a column of an array ``(samples, n)`` and a row, as Numba intrinsics.

The lanes of the row are neighbouring samples (see ``compiled.vectors``).
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from typing import Any

from numba import types
from numba.extending import intrinsic

from quantum_hybrid.compiled.vectors import Rows, constant, following, lane, splat

_I = types.int64


@intrinsic
def load_column(typing, dst, row, array, first, last, column):
    """dst row ``row`` = ``array[first:, column]``; samples beyond ``last`` are copies of it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out = Rows(context, builder, signature.args[0], args[0])
        data, width = _flat(context, builder, signature.args[2], args[2])
        value = constant(out.vector, 0.0)
        for i, sample in enumerate(following(builder, args[3], out.n_lanes)):
            inside = builder.icmp_signed("<", sample, args[4])
            at = builder.mul(builder.select(inside, sample, args[4]), width)
            scalar = builder.load(builder.gep(data, [builder.add(at, args[5])]))
            value = builder.insert_element(value, scalar, lane(i))
        out.store(args[1], value)
        return context.get_dummy_value()

    return types.void(dst, _I, array, _I, _I, _I), codegen


@intrinsic
def store_column(typing, array, first, column, src, row, factor):
    """``array[first:, column]`` = factor times src row ``row``; each lane must be a sample."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        into = Rows(context, builder, signature.args[3], args[3])
        data, width = _flat(context, builder, signature.args[0], args[0])
        value = builder.fmul(into.load(args[4]), splat(builder, into.vector, args[5]))
        for i, sample in enumerate(following(builder, args[1], into.n_lanes)):
            at = builder.add(builder.mul(sample, width), args[2])
            builder.store(builder.extract_element(value, lane(i)), builder.gep(data, [at]))
        return context.get_dummy_value()

    return types.void(array, _I, _I, src, _I, src.dtype), codegen


def _flat(context: Any, builder: Any, array_type: Any, array: Any) -> tuple[Any, Any]:
    """Pointer to the numbers of a contiguous array ``(samples, n)``, and n."""
    struct = context.make_array(array_type)(context, builder, array)
    return struct.data, builder.extract_value(struct.shape, 1)
