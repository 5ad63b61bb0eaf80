"""Cosine and sine of a row of angles, as a Numba intrinsic (see ``lanes``).

A library's functions would be called for one number at a time. Here ``x = q pi/2 + r`` with ``r``
in [-pi/4, pi/4], and the polynomials of Cephes (single) and fdlibm (double precision), which are
within about one unit in the last place. The first step of the reduction, ``x - q * HIGH``, is exact
with a fused multiply-add, as long as ``|x| <= LARGEST_ANGLE``.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from quantum_hybrid.compiled.lanes import Rows, fma, integer

LARGEST_ANGLE = 2.0**16
"""Radians."""


class _Precision(NamedTuple):
    int_bits: int
    mantissa_bits: int
    high: float
    """pi/2 to the type's precision, and what is left of it."""
    low: float
    sine: tuple[float, ...]
    """sin r = r + r^3 (s0 + s1 r^2 + ...)"""
    cosine: tuple[float, ...]
    """cos r = 1 - r^2 / 2 + r^4 (c0 + c1 r^2 + ...)"""


_SINGLE_HIGH = float(np.float32(math.pi / 2))
_SINGLE = _Precision(
    32,
    23,
    _SINGLE_HIGH,
    math.pi / 2 - _SINGLE_HIGH,
    (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
)
_DOUBLE = _Precision(
    64,
    52,
    math.pi / 2,
    6.123233995736766e-17,
    (
        -1.66666666666666324348e-01,
        8.33333333332248946124e-03,
        -1.98412698298579493134e-04,
        2.75573137070700676789e-06,
        -2.50507602534068634195e-08,
        1.58969099521155010221e-10,
    ),
    (
        4.16666666666666019037e-02,
        -1.38888888888741095749e-03,
        2.48015872894767294178e-05,
        -2.75573143513906633035e-07,
        2.08757232129817482790e-09,
        -1.13596475577881948265e-11,
    ),
)


@intrinsic
def turn(typing, trig, row, cos, sin):
    """trig rows ``row`` and ``row + 1`` = cosine and sine of half of row ``row`` plus an angle of
    this cosine and sine.

    True if that is right: no half angle was beyond `LARGEST_ANGLE`, or a NaN.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = Rows(context, builder, signature.args[0], args[0])
        precision = _SINGLE if rows.scalar == ir.FloatType() else _DOUBLE
        half = builder.fmul(rows.load(args[1]), rows.constant(0.5))
        c, s = _cosine_and_sine(builder, rows, half, precision)
        by_c, by_s = rows.splat(args[2]), rows.splat(args[3])
        turned_c = fma(builder, c, by_c, builder.fneg(builder.fmul(s, by_s)))
        rows.store(args[1], turned_c)
        turned_s = fma(builder, s, by_c, builder.fmul(c, by_s))
        rows.store(builder.add(args[1], integer(1)), turned_s)
        near = builder.and_(
            builder.fcmp_ordered("<=", half, rows.constant(LARGEST_ANGLE)),
            builder.fcmp_ordered(">=", half, rows.constant(-LARGEST_ANGLE)),
        )
        mask = ir.IntType(rows.n_lanes)
        return builder.icmp_unsigned("==", builder.bitcast(near, mask), ir.Constant(mask, -1))

    return types.boolean(trig, types.int64, trig.dtype, trig.dtype), codegen


def _cosine_and_sine(builder: Any, rows: Rows, x: Any, precision: _Precision) -> tuple[Any, Any]:
    ints = ir.VectorType(ir.IntType(precision.int_bits), rows.n_lanes)

    def whole(value: int) -> Any:
        return ir.Constant(ints, [value] * rows.n_lanes)

    # Added to a number this large, a fraction falls off, and the last bits are the whole number.
    magic = rows.constant(1.5 * 2.0**precision.mantissa_bits)
    shifted = fma(builder, x, rows.constant(2 / math.pi), magic)
    quadrant = builder.bitcast(shifted, ints)
    q = builder.fneg(builder.fsub(shifted, magic))
    r = fma(builder, q, rows.constant(precision.high), x)
    r = fma(builder, q, rows.constant(precision.low), r)
    z = builder.fmul(r, r)
    sine = fma(builder, builder.fmul(z, r), _polynomial(builder, rows, z, precision.sine), r)
    cosine = _polynomial(builder, rows, z, precision.cosine)
    half = fma(builder, z, rows.constant(-0.5), rows.constant(1.0))
    cosine = fma(builder, builder.fmul(z, z), cosine, half)
    odd = builder.icmp_signed("!=", builder.and_(quadrant, whole(1)), whole(0))
    swapped = builder.select(odd, sine, cosine), builder.select(odd, cosine, sine)
    to_sign = whole(precision.int_bits - 2)
    signs = builder.add(quadrant, whole(1)), quadrant
    turned = []
    for value, bits in zip(swapped, signs, strict=True):
        sign = builder.shl(builder.and_(bits, whole(2)), to_sign)
        flipped = builder.xor(builder.bitcast(value, ints), sign)
        turned.append(builder.bitcast(flipped, rows.vector))
    return turned[0], turned[1]


def _polynomial(builder: Any, rows: Rows, z: Any, coefficients: Sequence[float]) -> Any:
    value = rows.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = fma(builder, value, z, rows.constant(coefficient))
    return value
