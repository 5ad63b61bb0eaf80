"""Rotation angles for the native kernel: reduced to [-pi/2, pi/2], as tangents of their halves.

In that range the tangent of half an angle is at most 1, so the tangent form loses no accuracy. Up
to the sign of the state, RY(theta +- pi) is RY(theta) times Y. The Y moves through the rest of the
circuit as in Clifford simulation (Aaronson & Gottesman 2004, arXiv:quant-ph/0406196) and flips the
signs of some later angles and outputs.
"""

import math

import numpy as np
from numba import njit

from quantum_hybrid.compiled.machine_code import compiled

SMALLEST_SCALE = 2.0**-60
"""Smallest factor by which a float32 state is scaled at once; the smallest normal float32 number is
2**-126."""


@njit
def _nearest(angle):
    """The angle in [-pi, pi] with the same sine and cosine."""
    # Subtracting multiples of a rounded 2 pi would lose digits of a large angle; the library's sine
    # and cosine reduce it exactly.
    value = float(angle)
    if abs(value) <= math.pi:
        return value
    return math.atan2(math.sin(value), math.cos(value))


@compiled(allocates=True)
def reduce_angles(weights, cnots):
    """Angles in [-pi/2, pi/2] of a circuit with the same outputs, up to the signs returned.

    weights: (L, n), radians; the first layer's are part of the encoding and are not used. cnots:
    (count, 2), control and target. Returns, in double precision, the new angles of layers 1 to
    L - 1, ``(L - 1, n)``; the sign of the derivative by each, of the same shape; and the sign of
    each output, ``(n,)``.
    """
    n_layers, n = weights.shape
    reduced, signs = np.empty((n_layers - 1, n)), np.empty((n_layers - 1, n))
    # The Pauli string X^x Z^z that has been moved up to here; Y is X and Z.
    x, z = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for layer in range(n_layers - 1):
        for i in range(n):
            sign = -1.0 if x[i] ^ z[i] else 1.0  # RY(t) X = X RY(-t), also for Z; Y commutes
            angle = sign * _nearest(weights[layer + 1, i])
            if abs(angle) > math.pi / 2:
                angle -= math.copysign(math.pi, angle)
                x[i], z[i] = not x[i], not z[i]
            reduced[layer, i], signs[layer, i] = angle, sign
        for pair in range(len(cnots)):
            control, target = cnots[pair, 0], cnots[pair, 1]
            # A CNOT copies X from control to target and Z from target to control.
            x[target] ^= x[control]
            z[control] ^= z[target]
    output_signs = np.empty(n)
    for i in range(n):
        output_signs[i] = -1.0 if x[i] else 1.0  # X Z X = -Z, and Z commutes with Z
    return reduced, signs, output_signs


@compiled(allocates=True)
def rotations_of(weights, cnots):
    """What the kernel needs of the weights ``(L, n)``, in their dtype unless stated otherwise.

    Returns a tuple: cosines and sines of half the first layer's angles, ``(n,)`` each; tangents of
    half the reduced angles of layers 1 to L - 1, ``((L - 1) n,)``; the factor by which the state is
    scaled before layers 1 to L - 1, and after the last, ``(L,)``; signs of the outputs, ``(n,)``;
    and signs of the derivatives, ``(L - 1, n)``, in double precision.

    A rotation in tangent form is RY(t) / cos(t/2), so a layer multiplies the norm by the product of
    its 1 / cos. This growth is scaled away in advance, for several layers at once within float32's
    range.
    """
    n_layers, n = weights.shape
    first_cos, first_sin = np.empty(n, weights.dtype), np.empty(n, weights.dtype)
    for i in range(n):
        half = 0.5 * weights[0, i]
        first_cos[i], first_sin[i] = math.cos(half), math.sin(half)
    reduced, angle_signs, output_signs = reduce_angles(weights, cnots)
    tangents = np.empty(reduced.size, weights.dtype)
    scales = np.ones(n_layers, weights.dtype)
    start, scale = 0, 1.0
    for layer in range(n_layers - 1):
        cosines = 1.0
        for i in range(n):
            half = reduced[layer, i] / 2
            tangents[layer * n + i] = math.tan(half)
            cosines *= math.cos(half)
        if scale * cosines < SMALLEST_SCALE:
            # From here on the factor is applied before this layer instead.
            start, scale = layer, 1.0
        scale *= cosines
        scales[start] = scale
    return first_cos, first_sin, tangents, scales, output_signs.astype(weights.dtype), angle_signs


@njit(inline="always")
def sum_chunks(grad_weights, by_chunk):
    """Write the gradient by the weights ``(L, n)``: the sum of the parts ``(chunks, L n)``."""
    n = grad_weights.shape[1]
    for row in range(by_chunk.shape[1]):
        total = 0.0
        for chunk in range(len(by_chunk)):
            total += by_chunk[chunk, row]
        grad_weights[row // n, row % n] = total
