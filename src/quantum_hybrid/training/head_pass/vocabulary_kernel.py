"""The sweeps of `one_pass` over a chunk of logits, compiled by Numba: float32 on the CPU.

Arrays are flat. V words, R rows of the batch, a multiple of ``VECTOR_ROWS``; a vector holds one
number for each of ``VECTOR_ROWS`` rows (see ``vector_values``). ``classical`` is C, (V, R). Q is
never stored: its logits are products of ``readout``, (V, m), and ``points``,
(R / VECTOR_ROWS, m, VECTOR_ROWS), computed where they are used. A call processes the words from
``start`` to before ``stop``, so several threads can work on one chunk. It processes a block of
words for all rows while the block is in the cache. Exponentials are of numbers of at most 0: logits
minus the largest so far, or minus the normaliser.

Numba compiles this at the first call, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import numpy as np

from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.vector_values import (
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
WORK = 3 * BLOCK * VECTOR_ROWS
"""Length of ``work`` for `add_up`: Q, H and the ablated H of a block, for one vector of rows."""
_LOWEST = np.finfo(np.float32).min
_ZERO = np.float32(0)


@compiled
def _quantum(readout, word, points, first, m):
    """Q of a word for the rows whose points start at ``first``."""
    logit = splat(_ZERO)
    for k in range(m):
        logit = fma(splat_at(readout, word * m + k), load(points, first + k * VECTOR_ROWS), logit)
    return logit


@compiled
def add_up(out, classical, readout, points, m, mixes, ablated, weights, start, stop, work):
    """For each row the largest logit, and the sum of exp(logit - largest): of C, Q, H, ablated H.

    out: (2, 4, R), written: largest logits, then sums. H = weights[0] C + weights[1] Q; the ablated
    H has ``ablated``, (V,), in place of weights[1] Q. Both are computed only if ``mixes``.
    """
    n_rows = len(out) // 8
    of_classical, of_quantum = splat(weights[0]), splat(weights[1])
    q_at, h_at, a_at = 0, BLOCK * VECTOR_ROWS, 2 * BLOCK * VECTOR_ROWS
    for at in range(4 * n_rows):
        out[at], out[4 * n_rows + at] = _LOWEST, _ZERO
    # A block's logits of one vector of rows stay in the first-level cache between the two loops.
    for block in range(start, stop, BLOCK):
        n_words = min(BLOCK, stop - block)
        for row in range(0, n_rows, VECTOR_ROWS):
            c_old, q_old = load(out, row), load(out, n_rows + row)
            h_old, a_old = load(out, 2 * n_rows + row), load(out, 3 * n_rows + row)
            c_max, q_max, h_max, a_max = c_old, q_old, h_old, a_old
            # The largest first: exponentials of differences up to 0 cannot overflow.
            for j in range(n_words):
                c = load(classical, (block + j) * n_rows + row)
                q = _quantum(readout, block + j, points, row * m, m)
                store(work, q_at + j * VECTOR_ROWS, q)
                c_max, q_max = larger(c, c_max), larger(q, q_max)
                if mixes:
                    part = mul(of_classical, c)
                    h, a = fma(of_quantum, q, part), add(part, splat_at(ablated, block + j))
                    store(work, h_at + j * VECTOR_ROWS, h)
                    store(work, a_at + j * VECTOR_ROWS, a)
                    h_max, a_max = larger(h, h_max), larger(a, a_max)
            # Summed from zero, so that rounding does not grow with the vocabulary.
            c_sum = q_sum = h_sum = a_sum = splat(_ZERO)
            for j in range(n_words):
                c = load(classical, (block + j) * n_rows + row)
                c_sum = add(c_sum, exp(sub(c, c_max)))
                q_sum = add(q_sum, exp(sub(load(work, q_at + j * VECTOR_ROWS), q_max)))
                if mixes:
                    h_sum = add(h_sum, exp(sub(load(work, h_at + j * VECTOR_ROWS), h_max)))
                    a_sum = add(a_sum, exp(sub(load(work, a_at + j * VECTOR_ROWS), a_max)))
            _merge(out, row, 4 * n_rows, c_old, c_max, c_sum)
            _merge(out, n_rows + row, 4 * n_rows, q_old, q_max, q_sum)
            _merge(out, 2 * n_rows + row, 4 * n_rows, h_old, h_max, h_sum)
            _merge(out, 3 * n_rows + row, 4 * n_rows, a_old, a_max, a_sum)


@compiled
def _merge(out, at, sums, before, largest, added):
    # The online form of log-sum-exp (Milakov & Gimelshein 2018, arXiv:1805.02867): the old sum is
    # rescaled to the new largest logit.
    store(out, at, largest)
    at += sums
    store(out, at, fma(load(out, at), exp(sub(before, largest)), added))


@compiled
def differentiate(
    by_points, by_readout, moments, classical, readout, points, m, mixes, weights, normalisers,
    factors, start, stop,
):  # fmt: skip
    """The part of the gradients that comes from all words' probabilities; C becomes its gradient.

    The gradient by C is factors[0] p_C + factors[2] p_H, that by Q is factors[1] p_Q +
    factors[3] p_H; p_H and the moments only if ``mixes``. factors: (4, R). normalisers: (3, R) or
    more, log-sum-exp of C, Q and H. Added to: by_points, shaped like points; by_readout, (V, m);
    moments, (2, R), the sums over words of p_H C and p_H Q.
    """
    n_rows = len(moments) // 2
    of_classical, of_quantum = splat(weights[0]), splat(weights[1])
    for block in range(start, stop, BLOCK):
        for row in range(0, n_rows, VECTOR_ROWS):
            c_norm, q_norm = load(normalisers, row), load(normalisers, n_rows + row)
            h_norm = load(normalisers, 2 * n_rows + row)
            c_of_c, q_of_q = load(factors, row), load(factors, n_rows + row)
            c_of_h, q_of_h = load(factors, 2 * n_rows + row), load(factors, 3 * n_rows + row)
            c_moment, q_moment = load(moments, row), load(moments, n_rows + row)
            # Recomputing Q takes m multiply-adds a word, less than reading it from memory.
            for word in range(block, min(block + BLOCK, stop)):
                at = word * n_rows + row
                c, q = load(classical, at), _quantum(readout, word, points, row * m, m)
                by_c = mul(c_of_c, exp(sub(c, c_norm)))
                by_q = mul(q_of_q, exp(sub(q, q_norm)))
                if mixes:
                    p = exp(sub(fma(of_quantum, q, mul(of_classical, c)), h_norm))
                    c_moment, q_moment = fma(p, c, c_moment), fma(p, q, q_moment)
                    by_c, by_q = fma(c_of_h, p, by_c), fma(q_of_h, p, by_q)
                # C is not needed again: its gradient replaces it, so there is no second chunk.
                store(classical, at, by_c)
                _add_products(by_points, by_readout, by_q, readout, word, points, row * m, m)
            store(moments, row, c_moment)
            store(moments, n_rows + row, q_moment)


@compiled
def _add_products(by_points, by_readout, by_q, readout, word, points, first, m):
    # A word belongs to one thread, so no other adds to these rows of by_readout.
    for k in range(m):
        at, number = first + k * VECTOR_ROWS, word * m + k
        store(by_points, at, fma(splat_at(readout, number), by_q, load(by_points, at)))
        by_readout[number] += total(mul(by_q, load(points, at)))
