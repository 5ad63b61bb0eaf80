"""Coherence and entanglement of a batch's states in one pass, compiled by Numba, for training.

From half angles to two numbers for each sample, in float32. The states of the batch are not stored:
the circuit runs on a *tile* of ``TILE`` samples, which is reduced while it is in the cache. Its
state is ``(2**n, TILE)``. An entangler moves no data: it changes the order in which rows are read.
Numba compiles this at the first call, once on a machine: the result is cached on disk.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from quantum_hybrid.compiled.machine_code import compiled

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TILE = 64
"""Samples in the innermost loops: enough for LLVM to vectorise them."""
MAX_QUBITS = 14
"""Here a tile takes 4 MiB, about the size of a cache."""

_FUSED = {"contract"}
"""Of ``fastmath`` only this: multiply and add as one instruction."""
_LN2 = np.float32(math.log(2))
_ONE, _TWO = np.float32(1), np.float32(2)
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(1 / k) for k in (3, 5, 7, 9))
_BITS_OF_ONE, _BITS_OF_SQRT_HALF = np.int32(0x3F800000), np.int32(0x3F3504F3)
_MANTISSA, _MANTISSA_BITS, _BIAS = np.int32(0x7FFFFF), np.int32(23), np.int32(127)


@compiled(allocates=True)
def measure(
    entropy: Floats,
    impurity: Floats,
    cos: Floats,
    sin: Floats,
    later_cos: Floats,
    later_sin: Floats,
    rows: Ints,
) -> None:
    """Write the entropy in nats and the sum over qubits of det rho_k, both ``(tiles, TILE)``.

    cos, sin: (tiles, n, TILE), of half the sum of input and first weight. later_cos, later_sin:
    (L - 1, n), of half the other weights. rows: (L, 2**n), the row that holds each basis state
    after each entangler.
    """
    size = rows.shape[1]
    state = np.empty((size, TILE), np.float32)
    sums = np.empty((3, TILE), np.float32)
    for tile in range(len(cos)):
        _encode(state, cos[tile], sin[tile])
        for layer in range(len(later_cos)):
            _rotate(state, rows[layer], later_cos[layer], later_sin[layer])
        _add_determinants(impurity[tile], state, rows[-1], cos.shape[1], sums)
        _add_entropies(entropy[tile], state, sums, sums.view(np.int32))


@njit
def _encode(state: Floats, cos: Floats, sin: Floats) -> None:
    state[0] = _ONE
    for qubit in range(len(cos)):
        c, s = cos[qubit], sin[qubit]
        for row in range((1 << qubit) - 1, -1, -1):
            source, zero, one = state[row], state[2 * row], state[2 * row + 1]
            for lane in range(TILE):
                value = source[lane]
                one[lane] = value * s[lane]
                zero[lane] = value * c[lane]


@njit(fastmath=_FUSED)
def _rotate(state: Floats, rows: Ints, cos: Floats, sin: Floats) -> None:
    for qubit in range(len(cos)):
        c, s = cos[qubit], sin[qubit]
        bit = 1 << (len(cos) - 1 - qubit)
        for start in range(0, len(rows), 2 * bit):
            for index in range(start, start + bit):
                zero, one = state[rows[index]], state[rows[index | bit]]
                for lane in range(TILE):
                    x, y = zero[lane], one[lane]
                    zero[lane] = c * x - s * y
                    one[lane] = s * x + c * y


@njit(fastmath=_FUSED)
def _add_determinants(out: Floats, state: Floats, rows: Ints, n_qubits: int, sums: Floats) -> None:
    """Sum the determinants of the qubits' density matrices [[zeros, cross], [cross, ones]]."""
    zeros, ones, cross = sums[0], sums[1], sums[2]
    out[:] = 0
    for qubit in range(n_qubits):
        bit = 1 << (n_qubits - 1 - qubit)
        sums[:] = 0
        for start in range(0, len(rows), 2 * bit):
            for index in range(start, start + bit):
                zero, one = state[rows[index]], state[rows[index | bit]]
                for lane in range(TILE):
                    x, y = zero[lane], one[lane]
                    zeros[lane] += x * x
                    ones[lane] += y * y
                    cross[lane] += x * y
        for lane in range(TILE):
            out[lane] += zeros[lane] * ones[lane] - cross[lane] * cross[lane]


@njit(fastmath=_FUSED)
def _add_entropies(out: Floats, state: Floats, scratch: Floats, bits: NDArray[np.int32]) -> None:
    """Sum -p ln p over the amplitudes. ``bits`` are those of ``scratch``, (3, TILE).

    A library's logarithm would be called for one number at a time. Here p = 2**e m with m in
    [sqrt 1/2, sqrt 2), read from the bits of p, and ln m = 2 artanh s with s = (m - 1) / (m + 1).
    The terms of its series up to s**9 give all digits of float32. For p = 0 the logarithm is
    finite (e = -127), so the product is 0.
    """
    p, m = scratch[0], scratch[1]
    p_bits, m_bits, e = bits[0], bits[1], bits[2]
    out[:] = 0
    for row in range(len(state)):
        amplitude = state[row]
        for lane in range(TILE):
            p[lane] = amplitude[lane] * amplitude[lane]
        for lane in range(TILE):
            shifted = p_bits[lane] + (_BITS_OF_ONE - _BITS_OF_SQRT_HALF)
            e[lane] = (shifted >> _MANTISSA_BITS) - _BIAS
            m_bits[lane] = (shifted & _MANTISSA) + _BITS_OF_SQRT_HALF
        for lane in range(TILE):
            s = (m[lane] - _ONE) / (m[lane] + _ONE)
            z = s * s
            series = _ONE + z * (_THIRD + z * (_FIFTH + z * (_SEVENTH + z * _NINTH)))
            out[lane] -= p[lane] * (np.float32(e[lane]) * _LN2 + _TWO * s * series)
