"""The sweeps of `one_pass` over a chunk of logits, compiled by Numba: float32 on the CPU.

Arrays are flat, and a *lane* is a row of the batch (see ``vectors``); there are R of them, a
multiple of ``LANES``. ``classical`` is C, (V, R). Q is never stored: its logits are the products
of ``readout``, (V, m), with ``points``, (R / LANES, m, LANES), computed where they are used. A call
is for the words from ``start`` to ``stop``, so that several threads may share a chunk; a block of
words is done for all rows while it is in the cache. Exponentials are of numbers up to 0: logits
less the largest so far, or less the normaliser.

Numba compiles this at the first call, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import numpy as np

from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.vectors import (
    LANES,
    add,
    exp,
    fma,
    larger,
    load,
    mul,
    splat,
    splat_at,
    store,
    sub,
    total,
)

BLOCK = 16
"""Words in a block."""
WORK = 3 * BLOCK * LANES
"""Numbers of memory that `add_up` wants."""
_LOWEST = np.finfo(np.float32).min
_ZERO = np.float32(0)


@compiled
def _quantum(readout, word, points, first, m):
    """Q of a word in the lanes whose points start at ``first``."""
    logit = splat(_ZERO)
    for k in range(m):
        logit = fma(splat_at(readout, word * m + k), load(points, first + k * LANES), logit)
    return logit


@compiled
def add_up(out, classical, readout, points, m, mixes, ablated, weights, start, stop, work):
    """Largest logit, and sum of exponentials over it, in each row: of C, Q, H and the ablated H.

    out: (2, 4, R), written; of H only if ``mixes``, H = weights[0] C + weights[1] Q. With
    ``ablated``, (V,), in place of the second product it is the ablated one.
    """
    n_rows = len(out) // 8
    of_classical, of_quantum = splat(weights[0]), splat(weights[1])
    q_at, h_at, a_at = 0, BLOCK * LANES, 2 * BLOCK * LANES
    for at in range(4 * n_rows):
        out[at], out[4 * n_rows + at] = _LOWEST, _ZERO
    # A block's logits of one vector of rows stay in the first-level cache between the two loops.
    for block in range(start, stop, BLOCK):
        n_words = min(BLOCK, stop - block)
        for row in range(0, n_rows, LANES):
            c_old, q_old = load(out, row), load(out, n_rows + row)
            h_old, a_old = load(out, 2 * n_rows + row), load(out, 3 * n_rows + row)
            c_max, q_max, h_max, a_max = c_old, q_old, h_old, a_old
            # The largest first: exponentials of differences up to 0 cannot overflow.
            for j in range(n_words):
                c = load(classical, (block + j) * n_rows + row)
                q = _quantum(readout, block + j, points, row * m, m)
                store(work, q_at + j * LANES, q)
                c_max, q_max = larger(c, c_max), larger(q, q_max)
                if mixes:
                    part = mul(of_classical, c)
                    h, a = fma(of_quantum, q, part), add(part, splat_at(ablated, block + j))
                    store(work, h_at + j * LANES, h)
                    store(work, a_at + j * LANES, a)
                    h_max, a_max = larger(h, h_max), larger(a, a_max)
            # Summed from zero, so that rounding does not grow with the vocabulary.
            c_sum = q_sum = h_sum = a_sum = splat(_ZERO)
            for j in range(n_words):
                c = load(classical, (block + j) * n_rows + row)
                c_sum = add(c_sum, exp(sub(c, c_max)))
                q_sum = add(q_sum, exp(sub(load(work, q_at + j * LANES), q_max)))
                if mixes:
                    h_sum = add(h_sum, exp(sub(load(work, h_at + j * LANES), h_max)))
                    a_sum = add(a_sum, exp(sub(load(work, a_at + j * LANES), a_max)))
            _merge(out, row, 4 * n_rows, c_old, c_max, c_sum)
            _merge(out, n_rows + row, 4 * n_rows, q_old, q_max, q_sum)
            _merge(out, 2 * n_rows + row, 4 * n_rows, h_old, h_max, h_sum)
            _merge(out, 3 * n_rows + row, 4 * n_rows, a_old, a_max, a_sum)


@compiled
def _merge(out, at, sums, before, largest, added):
    # The online form of log-sum-exp (Milakov & Gimelshein 2018, arXiv:1805.02867): what was summed
    # over the largest so far is brought to the new one.
    store(out, at, largest)
    at += sums
    store(out, at, fma(load(out, at), exp(sub(before, largest)), added))


@compiled
def differentiate(
    by_points, by_readout, moments, classical, readout, points, m, mixes, weights, normalisers,
    shares, start, stop,
):  # fmt: skip
    """What all words' probabilities contribute to the gradients; C becomes the gradient by C.

    by_points, like points; by_readout, (V, m); moments, (2, R), the sums over words of p_H C and
    p_H Q: all three get added to. normalisers: (3, R), logarithms of the sums of exponentials of C,
    Q and H. shares: (4, R), the gradient by C is shares[0] p_C + shares[2] p_H, and that by Q is
    shares[1] p_Q + shares[3] p_H; p_H and the moments only if ``mixes``.
    """
    n_rows = len(moments) // 2
    of_classical, of_quantum = splat(weights[0]), splat(weights[1])
    for block in range(start, stop, BLOCK):
        for row in range(0, n_rows, LANES):
            c_norm, q_norm = load(normalisers, row), load(normalisers, n_rows + row)
            h_norm = load(normalisers, 2 * n_rows + row)
            c_of_c, q_of_q = load(shares, row), load(shares, n_rows + row)
            c_of_h, q_of_h = load(shares, 2 * n_rows + row), load(shares, 3 * n_rows + row)
            c_moment, q_moment = load(moments, row), load(moments, n_rows + row)
            # Q is computed anew, m multiply-adds a word: reading it back would take longer.
            for word in range(block, min(block + BLOCK, stop)):
                at = word * n_rows + row
                c, q = load(classical, at), _quantum(readout, word, points, row * m, m)
                by_c = mul(c_of_c, exp(sub(c, c_norm)))
                by_q = mul(q_of_q, exp(sub(q, q_norm)))
                if mixes:
                    p = exp(sub(fma(of_quantum, q, mul(of_classical, c)), h_norm))
                    c_moment, q_moment = fma(p, c, c_moment), fma(p, q, q_moment)
                    by_c, by_q = fma(c_of_h, p, by_c), fma(q_of_h, p, by_q)
                # C is not needed again: its gradient takes its place, and no second chunk is held.
                store(classical, at, by_c)
                _add_products(by_points, by_readout, by_q, readout, word, points, row * m, m)
            store(moments, row, c_moment)
            store(moments, n_rows + row, q_moment)


@compiled
def _add_products(by_points, by_readout, by_q, readout, word, points, first, m):
    # A thread has words of its own, so nobody else adds to these rows of by_readout.
    for k in range(m):
        at, number = first + k * LANES, word * m + k
        store(by_points, at, fma(splat_at(readout, number), by_q, load(by_points, at)))
        by_readout[number] += total(mul(by_q, load(points, at)))
