"""Cosine and sine of a row of angles, as a Numba intrinsic (see ``compiled.vectors``).

A library's functions would be called for one number at a time. Here ``x = q pi/2 + r`` with an
integer ``q`` and ``r`` in [-pi/4, pi/4]. Cosine and sine of ``r`` are the polynomials of Cephes
(single precision) and fdlibm (double), accurate to about one unit in the last place. The first step
of the reduction, ``x - q * high``, is exact with a fused multiply-add if ``|x| <= LARGEST_ANGLE``.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from quantum_hybrid.compiled.vectors import Rows, constant, fma, integer, polynomial, splat

LARGEST_ANGLE = 2.0**16
"""Radians."""


class _Precision(NamedTuple):
    int_bits: int
    mantissa_bits: int
    high: float
    """pi/2 rounded to the dtype."""
    low: float
    """pi/2 - high."""
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
    """trig rows ``row`` and ``row + 1`` = cosine and sine of x / 2 + a.

    x: the angles in row ``row``, radians. cos, sin: scalars, cosine and sine of a. Returns whether
    the result is valid: false if an x / 2 is a NaN or beyond `LARGEST_ANGLE`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = Rows(context, builder, signature.args[0], args[0])
        precision = _SINGLE if rows.scalar == ir.FloatType() else _DOUBLE
        half = builder.fmul(rows.load(args[1]), constant(rows.vector, 0.5))
        c, s = _cosine_and_sine(builder, rows, half, precision)
        by_c, by_s = splat(builder, rows.vector, args[2]), splat(builder, rows.vector, args[3])
        turned_c = fma(builder, c, by_c, builder.fneg(builder.fmul(s, by_s)))
        rows.store(args[1], turned_c)
        turned_s = fma(builder, s, by_c, builder.fmul(c, by_s))
        rows.store(builder.add(args[1], integer(1)), turned_s)
        # Ordered comparisons are false for NaN.
        near = builder.and_(
            builder.fcmp_ordered("<=", half, constant(rows.vector, LARGEST_ANGLE)),
            builder.fcmp_ordered(">=", half, constant(rows.vector, -LARGEST_ANGLE)),
        )
        mask = ir.IntType(rows.n_lanes)
        return builder.icmp_unsigned("==", builder.bitcast(near, mask), ir.Constant(mask, -1))

    return types.boolean(trig, types.int64, trig.dtype, trig.dtype), codegen


def _cosine_and_sine(builder: Any, rows: Rows, x: Any, precision: _Precision) -> tuple[Any, Any]:
    ints = ir.VectorType(ir.IntType(precision.int_bits), rows.n_lanes)

    # At this magnitude neighbouring floats are 1 apart: adding it rounds to an integer, which then
    # stands in the low bits of the mantissa.
    magic = constant(rows.vector, 1.5 * 2.0**precision.mantissa_bits)
    shifted = fma(builder, x, constant(rows.vector, 2 / math.pi), magic)
    quadrant = builder.bitcast(shifted, ints)
    q = builder.fneg(builder.fsub(shifted, magic))
    r = fma(builder, q, constant(rows.vector, precision.high), x)
    r = fma(builder, q, constant(rows.vector, precision.low), r)
    z = builder.fmul(r, r)
    sine = fma(builder, builder.fmul(z, r), polynomial(builder, z, precision.sine), r)
    cosine = polynomial(builder, z, precision.cosine)
    half = fma(builder, z, constant(rows.vector, -0.5), constant(rows.vector, 1.0))
    cosine = fma(builder, builder.fmul(z, z), cosine, half)
    # In odd quadrants sine and cosine change places; the quadrant's next bit is the sign.
    odd = builder.icmp_signed("!=", builder.and_(quadrant, constant(ints, 1)), constant(ints, 0))
    swapped = builder.select(odd, sine, cosine), builder.select(odd, cosine, sine)
    to_sign = constant(ints, precision.int_bits - 2)
    signs = builder.add(quadrant, constant(ints, 1)), quadrant
    turned = []
    for value, bits in zip(swapped, signs, strict=True):
        sign = builder.shl(builder.and_(bits, constant(ints, 2)), to_sign)
        flipped = builder.xor(builder.bitcast(value, ints), sign)
        turned.append(builder.bitcast(flipped, rows.vector))
    return turned[0], turned[1]
