"""Rotation angles for the native kernel, which wants them in [-pi/2, pi/2] and in tangent form.

There the tangent of half an angle is at most 1, and a rotation by its tangent loses nothing.
RY(theta +- pi) is RY(theta) times Y but for the sign of the state, and Y moves through the rest of
the circuit as in Clifford simulation (Aaronson & Gottesman 2004, arXiv:quant-ph/0406196): it turns
the sign of some later angles and outputs.
"""

import math

import numpy as np
from numba import njit

SMALLEST_SCALE = 2.0**-60
"""Least factor that a float32 state is scaled by at once."""


@njit(cache=True)
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
            angle = (sign * weights[layer + 1, i] + math.pi) % (2 * math.pi) - math.pi
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


@njit(cache=True)
def later_rotations(weights, cnots):
    """What the kernel needs of the rotations of layers 1 to L - 1, as floats of the weights' type.

    Returns the tangents of half the reduced angles, ``((L - 1) n,)``; what makes up for their
    cosines, ``(L,)``; the signs of the outputs, ``(n,)``; and, in double precision, those of the
    derivatives, ``(L - 1, n)``.

    Rotations in tangent form make a state longer by the product of the layer's ``1 / cos``. It is
    made shorter beforehand, by the cosines of as many layers as leave it within float32's range.
    """
    n_layers, n = weights.shape
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
    return tangents, scales, output_signs.astype(weights.dtype), angle_signs


@njit(cache=True)
def gather(grad_inputs, by_angle, angle_signs):
    """Gradient by the weights, ``(L, n)``.

    grad_inputs: (samples, n); the first rotations' angles are added to the inputs. by_angle:
    (chunks, (L - 1) n), by the reduced angles.
    """
    n_later, n = angle_signs.shape
    gradient = np.zeros((n_later + 1, n))
    for sample in range(len(grad_inputs)):
        for i in range(n):
            gradient[0, i] += grad_inputs[sample, i]
    for chunk in range(len(by_angle)):
        for layer in range(n_later):
            for i in range(n):
                gradient[layer + 1, i] += angle_signs[layer, i] * by_angle[chunk, layer * n + i]
    return gradient.astype(grad_inputs.dtype)
