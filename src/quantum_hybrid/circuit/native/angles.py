"""Rotation angles for the native kernel, which wants them in [-pi/2, pi/2] and in tangent form.

There the tangent of half an angle is at most 1, and a rotation by its tangent loses nothing.
RY(theta +- pi) is RY(theta) times Y but for the sign of the state, and Y moves through the rest of
the circuit as in Clifford simulation (Aaronson & Gottesman 2004, arXiv:quant-ph/0406196): it turns
the sign of some later angles and outputs.
"""

import math

import numpy as np
from numba import njit

from quantum_hybrid.compiled.machine_code import compiled

SMALLEST_SCALE = 2.0**-60
"""Least factor that a float32 state is scaled by at once."""


@njit
def _nearest(angle):
    """The angle in [-pi, pi] with the same sine and cosine: 2 pi has no exact multiple to go by."""
    value = float(angle)
    if abs(value) <= math.pi:
        return value
    return math.atan2(math.sin(value), math.cos(value))


@compiled(allocates=True)
def reduce_angles(weights, cnots):
    """Angles in [-pi/2, pi/2] of a circuit with the same outputs, up to the signs returned.

    weights: (L, n), of which the first layer's, part of the encoding, are not looked at. cnots:
    (count, 2), control and target. Returns the new angles of layers 1 to L - 1, ``(L - 1, n)``, the
    sign of each one's derivative, alike, and the sign of each output ``(n,)``; in double precision.
    """
    n_layers, n = weights.shape
    reduced, signs = np.empty((n_layers - 1, n)), np.empty((n_layers - 1, n))
    x, z = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for layer in range(n_layers - 1):
        for i in range(n):
            sign = -1.0 if x[i] ^ z[i] else 1.0  # X and Z turn an RY around, Y does not
            angle = sign * _nearest(weights[layer + 1, i])
            if abs(angle) > math.pi / 2:
                angle -= math.copysign(math.pi, angle)
                x[i], z[i] = not x[i], not z[i]
            reduced[layer, i], signs[layer, i] = angle, sign
        for pair in range(len(cnots)):
            control, target = cnots[pair, 0], cnots[pair, 1]
            x[target] ^= x[control]
            z[control] ^= z[target]
    output_signs = np.empty(n)
    for i in range(n):
        output_signs[i] = -1.0 if x[i] else 1.0
    return reduced, signs, output_signs


@compiled(allocates=True)
def rotations_of(weights, cnots):
    """What the kernel needs of the weights ``(L, n)``, as floats of their type.

    Returns the cosines and the sines of half the first layer's angles, ``(n,)`` each; of layers 1
    to L - 1 the tangents of half the reduced angles, ``((L - 1) n,)``; what makes up for their
    cosines, ``(L,)``; the signs of the outputs, ``(n,)``; and, in double precision, those of the
    derivatives, ``(L - 1, n)``.

    Rotations in tangent form make a state longer by the product of the layer's ``1 / cos``. It is
    made shorter beforehand, by the cosines of as many layers as leave it within float32's range.
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
            start, scale = layer, 1.0
        scale *= cosines
        scales[start] = scale
    return first_cos, first_sin, tangents, scales, output_signs.astype(weights.dtype), angle_signs


@njit(inline="always")
def sum_chunks(grad_weights, by_chunk):
    """Gradient by the weights ``(L, n)``, from each chunk's part of it, ``(chunks, L n)``."""
    n = grad_weights.shape[1]
    for row in range(by_chunk.shape[1]):
        total = 0.0
        for chunk in range(len(by_chunk)):
            total += by_chunk[chunk, row]
        grad_weights[row // n, row % n] = total
