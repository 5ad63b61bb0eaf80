"""``LANES`` float32 numbers as one value in a function that Numba compiles.

Numba's own loops over rows this short are many times slower than LLVM's vector types, which these
intrinsics are written in; LLVM cuts a vector into what registers the processor has. ``array`` is
one-dimensional, contiguous float32, and ``at`` the place of a vector's first number in it; nothing
is checked.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model
from numpy.polynomial import Chebyshev, Polynomial

LANES = 16
"""Numbers in a vector."""
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_VECTOR = _Vector()
_I = types.int64


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [at])


def _vector_address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.bitcast(_address(context, builder, kind, array, at), _FLOATS.as_pointer())


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scalar, zero)
    return builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * LANES))


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * LANES)


def _whole(value: int) -> Any:
    return ir.Constant(_INTS, [value] * LANES)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    signature = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    name = f"llvm.fma.v{LANES}f32"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


@intrinsic
def load(typing, array, at):
    """The vector at a place."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _vector_address(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=4)

    return _VECTOR(array, _I), codegen


@intrinsic
def store(typing, array, at, vector):
    """Put a vector at a place."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _vector_address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, _I, _VECTOR), codegen


@intrinsic
def splat(typing, scalar):
    """A number in all lanes."""
    return _VECTOR(types.float32), lambda context, builder, signature, args: _splat(builder, *args)


@intrinsic
def splat_at(typing, array, at):
    """The one number at a place, in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, builder.load(_address(context, builder, signature.args[0], *args)))

    return _VECTOR(array, _I), codegen


@intrinsic
def fma(typing, x, y, z):
    """x y + z, rounded once."""
    return _VECTOR(x, y, z), lambda context, builder, signature, args: _fma(builder, *args)


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
    """x where that is larger, else y; so y where x is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return _VECTOR(x, y), codegen


@intrinsic
def total(typing, x):
    """The sum of all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (vector,) = args
        width = LANES
        while width > 1:
            width //= 2
            lanes = ir.Constant(_INTS, [(i + width) % LANES for i in range(LANES)])
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, lanes))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float32(x), codegen


_LN2 = math.log(2)
_LN2_HIGH = 0.693359375
"""ln 2 in nine bits, so that its whole multiples are exact."""
_SMALLEST = -87.0
"""The exponential of what is less would be no normal number."""
_ROUNDER = 1.5 * 2**23
"""What is added to it is rounded to a whole number, which then stands in the lowest bits."""
_ONE_BITS = 0x3F800000
_MANTISSA_BITS = 23
_HALF_OCTAVE = [-_LN2 / 2, _LN2 / 2]
_SERIES = Chebyshev.interpolate(np.exp, 6, _HALF_OCTAVE).convert(kind=Polynomial).coef
"""exp within half an octave, to 4e-9 of it."""


@intrinsic
def exp(typing, x):
    """e to the x for x up to 88; NaN stays NaN, and what is below -87 counts as that.

    x = n ln 2 + r with n whole: 2**n is made of bits, e**r is a polynomial. A library's function
    would be called for one number at a time.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        smallest = _constant(_SMALLEST)
        value = builder.select(builder.fcmp_ordered("<", args[0], smallest), smallest, args[0])
        shifted = _fma(builder, value, _constant(1 / _LN2), _constant(_ROUNDER))
        n = builder.fsub(shifted, _constant(_ROUNDER))
        r = _fma(builder, n, _constant(-_LN2_HIGH), value)
        r = _fma(builder, n, _constant(_LN2_HIGH - _LN2), r)
        power = _constant(_SERIES[-1])
        for coefficient in _SERIES[-2::-1]:
            power = _fma(builder, power, r, _constant(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, _INTS), _whole(_MANTISSA_BITS))
        bits = builder.add(exponent, _whole(_ONE_BITS))
        return builder.fmul(power, builder.bitcast(bits, _FLOATS))

    return _VECTOR(x), codegen
