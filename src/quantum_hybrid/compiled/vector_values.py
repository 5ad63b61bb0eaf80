"""Vectors of float32 as values in functions that Numba compiles.

A vector holds one number for each of `VECTOR_ROWS` rows of the batch, and may be assigned and
passed like a number. ``array`` is one-dimensional, contiguous float32; ``at`` is the
position of a vector's first number in it. Bounds are not checked.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model
from numpy.polynomial import Chebyshev, Polynomial

from quantum_hybrid.compiled import vectors
from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.compiled.vectors import Rows, constant, integer, lane, shuffle

_FLOATS = ir.VectorType(ir.FloatType(), VECTOR_ROWS)
_INTS = ir.VectorType(ir.IntType(32), VECTOR_ROWS)
_FLOAT_BYTES = 4


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{VECTOR_ROWS}")


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_VECTOR = _Vector()
_I = types.int64


def rows_from(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Rows:
    """The array from ``at`` on, as rows."""
    # torch aligns the memory of a tensor, but not that of a slice of it.
    return Rows(
        context, builder, array_type, array, at,
        row_bytes=VECTOR_ROWS * _FLOAT_BYTES, alignment=_FLOAT_BYTES,
    )  # fmt: skip


@intrinsic
def load(typing, array, at):
    """The vector at a position."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return rows_from(context, builder, signature.args[0], *args).load(integer(0))

    return _VECTOR(array, _I), codegen


@intrinsic
def store(typing, array, at, vector):
    """Write a vector to a position."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows_from(context, builder, signature.args[0], *args[:2]).store(integer(0), args[2])
        return context.get_dummy_value()

    return types.void(array, _I, _VECTOR), codegen


@intrinsic
def splat(typing, scalar):
    """A number in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return vectors.splat(builder, _FLOATS, *args)

    return _VECTOR(types.float32), codegen


@intrinsic
def splat_at(typing, array, at):
    """The single number at a position, in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (vector,) = rows_from(context, builder, signature.args[0], *args).splats(integer(0), 1)
        return vector

    return _VECTOR(array, _I), codegen


@intrinsic
def fma(typing, x, y, z):
    """x y + z, rounded once."""
    return _VECTOR(x, y, z), lambda context, builder, signature, args: vectors.fma(builder, *args)


@intrinsic
def add(typing, x, y):
    """x + y."""
    return _VECTOR(x, y), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def sub(typing, x, y):
    """x - y."""
    return _VECTOR(x, y), lambda context, builder, signature, args: builder.fsub(*args)


@intrinsic
def mul(typing, x, y):
    """x y."""
    return _VECTOR(x, y), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def larger(typing, x, y):
    """x where x > y, else y. Where either is NaN the comparison is false, so y is returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return _VECTOR(x, y), codegen


@intrinsic
def total(typing, x):
    """The sum of all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (vector,) = args
        width = VECTOR_ROWS
        # Halves are added pairwise: 4 additions for 16 lanes. The order, and with it the rounding,
        # is the same on every processor.
        while width > 1:
            width //= 2
            lanes = [(i + width) % VECTOR_ROWS for i in range(VECTOR_ROWS)]
            vector = builder.fadd(vector, shuffle(builder, vector, vector, lanes))
        return builder.extract_element(vector, lane(0))

    return types.float32(x), codegen


_LN2 = math.log(2)
_LN2_HIGH = 0.693359375
"""ln 2 to nine bits, so that its product with an exponent of float32 is exact."""
_SMALLEST = -87.0
"""Below about -87.3 the exponential is a subnormal number, whose bits have another form."""
_ROUNDER = 1.5 * 2**23
"""Adding it rounds a number to an integer, which then stands in the low bits of the mantissa."""
_ONE_BITS = 0x3F800000
_MANTISSA_BITS = 23
_HALF_OCTAVE = [-_LN2 / 2, _LN2 / 2]
_SERIES = Chebyshev.interpolate(np.exp, 6, _HALF_OCTAVE).convert(kind=Polynomial).coef.tolist()
"""exp on [-ln 2 / 2, ln 2 / 2], with a relative error of 4e-9."""


@intrinsic
def exp(typing, x):
    """e to the power x for x up to 88. NaN stays NaN; x below -87 is taken for -87.

    x = n ln 2 + r with an integer n: 2**n is written as the exponent's bits, e**r is a polynomial.
    A library's function would be called for one number at a time.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        smallest = constant(_FLOATS, _SMALLEST)
        # An ordered comparison with NaN is false, so NaN passes through.
        value = builder.select(builder.fcmp_ordered("<", args[0], smallest), smallest, args[0])
        rounder = constant(_FLOATS, _ROUNDER)
        shifted = vectors.fma(builder, value, constant(_FLOATS, 1 / _LN2), rounder)
        n = builder.fsub(shifted, rounder)
        # Cody and Waite's reduction: n ln 2 is subtracted in two parts, the first of them exact.
        r = vectors.fma(builder, n, constant(_FLOATS, -_LN2_HIGH), value)
        r = vectors.fma(builder, n, constant(_FLOATS, _LN2_HIGH - _LN2), r)
        power = vectors.polynomial(builder, r, _SERIES)
        mantissa_bits = constant(_INTS, _MANTISSA_BITS)
        # The shift drops the rounder's own bits and leaves n as an exponent.
        exponent = builder.shl(builder.bitcast(shifted, _INTS), mantissa_bits)
        bits = builder.add(exponent, constant(_INTS, _ONE_BITS))
        return builder.fmul(power, builder.bitcast(bits, _FLOATS))

    return _VECTOR(x), codegen
