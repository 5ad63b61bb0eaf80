"""Two sweeps over the vocabulary for many readouts, compiled by Numba: float32 on the CPU.

A readout predicts the next token of a row from n numbers z of it: its logits are e^t C + U z + b,
with classical logits C that all readouts share, or without them. Arrays are flat, and a vector
holds one number for each of ``VECTOR_ROWS`` rows of the batch (see ``vector_values``):

    weights    (readouts, words, width)                              U
    biases     (readouts, words)                                     b
    points     (readouts, rows / VECTOR_ROWS, width, VECTOR_ROWS)    z
    classical  (words, rows)                                         C; empty for none
    scales     (readouts,)                                           e^t

Words, width and rows are padded to multiples of BLOCK, GROUP and ``VECTOR_ROWS``. A tile of words
is processed for all readouts while its part of C is in the cache, so a sweep reads C once. Within a
tile the logits of BLOCK words are computed for one vector of rows at a time, by straight-line code
that keeps GROUP numbers of z in registers.

Logits of the whole vocabulary are never stored: the second sweep computes them again, since n
multiply-adds and an exponential take less time than writing and reading a number of main memory.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from quantum_hybrid.compiled import vectors
from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.vector_values import (
    add,
    exp,
    fma,
    larger,
    load,
    mul,
    rows_from,
    splat,
    splat_at,
    store,
    sub,
    total,
)
from quantum_hybrid.compiled.vectors import following, integer

GROUP = 8
"""Numbers of z in registers at a time."""
BLOCK = 8
"""Words whose logits are computed together. With GROUP vectors of z they fill 16 registers."""
TILE = 32 * BLOCK
"""Words that all readouts process in turn: 512 kB of C for 512 rows, in the second-level cache."""
_ZERO = np.float32(0)
_LOWEST = np.finfo(np.float32).min
_FLOOR = np.float32(-50)
"""Smallest log-probability of a gradient. Smaller ones would make products with z subnormal, and
arithmetic with those takes several times as long; 49,152 words of 2e-22 change nothing."""
_I = types.int64


def work_length(width: int) -> int:
    """Length of ``work`` for both sweeps: a block's logits, and sums for its gradients."""
    return BLOCK * (2 + width) * VECTOR_ROWS


@intrinsic
def _add_products(typing, logits, weights, first, width, points, at):
    """Add U z, for GROUP numbers of z, to the logits of BLOCK words.

    ``first`` is the position of the first word's first weight, ``at`` that of the points.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out = rows_from(context, builder, kinds[0], args[0], integer(0))
        zs = rows_from(context, builder, kinds[4], args[4], args[5])
        points = zs.load_all(following(builder, integer(0), GROUP))
        for word in range(BLOCK):
            at = builder.add(args[2], builder.mul(args[3], integer(word)))
            numbers = rows_from(context, builder, kinds[1], args[1], at)
            value = out.load(integer(word))
            for u, z in zip(numbers.splats(integer(0), GROUP), points, strict=True):
                value = vectors.fma(builder, u, z, value)
            out.store(integer(word), value)
        return context.get_dummy_value()

    return types.void(logits, weights, _I, _I, points, _I), codegen


@intrinsic
def _add_by_points(typing, by_points, at, weights, first, width, slopes):
    """Add the slopes of BLOCK words times U to the gradient by GROUP numbers of z."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out = rows_from(context, builder, kinds[0], args[0], args[1])
        slopes = rows_from(context, builder, kinds[5], args[5], integer(0))
        rows = following(builder, integer(0), GROUP)
        sums = out.load_all(rows)
        for word in range(BLOCK):
            at = builder.add(args[3], builder.mul(args[4], integer(word)))
            numbers = rows_from(context, builder, kinds[2], args[2], at)
            slope = slopes.load(integer(word))
            pairs = zip(numbers.splats(integer(0), GROUP), sums, strict=True)
            sums = [vectors.fma(builder, u, slope, value) for u, value in pairs]
        out.store_all(rows, sums)
        return context.get_dummy_value()

    return types.void(by_points, _I, weights, _I, _I, slopes), codegen


@intrinsic
def _add_by_weights(typing, sums, start, width, slopes, points, at):
    """Add slope times z, for GROUP numbers of z, to sums (BLOCK, width) that begin at ``start``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        slopes = rows_from(context, builder, kinds[3], args[3], integer(0))
        zs = rows_from(context, builder, kinds[4], args[4], args[5])
        rows = following(builder, integer(0), GROUP)
        points = zs.load_all(rows)
        for word in range(BLOCK):
            vector = builder.mul(args[2], integer(word * VECTOR_ROWS))
            out = rows_from(context, builder, kinds[0], args[0], builder.add(args[1], vector))
            slope = slopes.load(integer(word))
            pairs = zip(out.load_all(rows), points, strict=True)
            out.store_all(rows, [vectors.fma(builder, slope, z, old) for old, z in pairs])
        return context.get_dummy_value()

    return types.void(sums, _I, _I, slopes, points, _I), codegen


@compiled
def _block(work, weights, biases, points, width, first, at, classical, c_at, n_rows, scale):
    """The logits of BLOCK words for one vector of rows, in the first BLOCK vectors of ``work``.

    first: position of the first word's bias. at: of the points. c_at: of the first word's C.
    """
    for word in range(BLOCK):
        value = splat_at(biases, first + word)
        if len(classical) > 0:
            value = fma(splat(scale), load(classical, c_at + word * n_rows), value)
        store(work, word * VECTOR_ROWS, value)
    for group in range(0, width, GROUP):
        _add_products(work, weights, first * width + group, width, points, at + group * VECTOR_ROWS)


@compiled
def add_up(out, weights, biases, points, width, classical, scales, work):
    """For each readout and row the largest logit, and the sum of exp(logit - largest).

    out: (readouts, 2, rows), written.
    """
    n_readouts = len(scales)
    n_words, n_rows = len(biases) // n_readouts, len(out) // (2 * n_readouts)
    for r in range(n_readouts):
        for row in range(n_rows):
            out[2 * r * n_rows + row] = _LOWEST
            out[(2 * r + 1) * n_rows + row] = _ZERO
    for tile in range(0, n_words, TILE):
        for r in range(n_readouts):
            for word in range(tile, min(tile + TILE, n_words), BLOCK):
                for row in range(0, n_rows, VECTOR_ROWS):
                    at = (r * n_rows + row) * width
                    _block(
                        work, weights, biases, points, width, r * n_words + word, at,
                        classical, word * n_rows + row, n_rows, scales[r],
                    )  # fmt: skip
                    _merge(out, 2 * r * n_rows + row, (2 * r + 1) * n_rows + row, work)


@compiled
def _merge(out, maxima, sums, work):
    # The online form of log-sum-exp (Milakov & Gimelshein 2018, arXiv:1805.02867): the old sum is
    # rescaled to the new largest logit. Exponentials of differences up to 0 cannot overflow.
    before = load(out, maxima)
    largest = before
    for word in range(BLOCK):
        largest = larger(load(work, word * VECTOR_ROWS), largest)
    # Summed from zero, so that rounding does not grow with the vocabulary.
    added = splat(_ZERO)
    for word in range(BLOCK):
        added = add(added, exp(sub(load(work, word * VECTOR_ROWS), largest)))
    store(out, maxima, largest)
    store(out, sums, fma(load(out, sums), exp(sub(before, largest)), added))


@compiled
def differentiate(
    by_weights, by_biases, by_points, by_scales, weights, biases, points, width, classical, scales,
    normalisers, factors, work,
):  # fmt: skip
    """The part of the gradients that comes from all words' probabilities.

    The gradient by a logit is factor * p of its row. normalisers: (readouts, rows), log-sum-exp.
    factors: (rows,). Added to: by_weights, by_biases and by_points, shaped as what they belong to,
    and by_scales, (readouts, rows), the sums over words of factor * p C.
    """
    n_readouts, n_rows = len(scales), len(factors)
    n_words = len(biases) // n_readouts
    moments, sums = BLOCK * VECTOR_ROWS, 2 * BLOCK * VECTOR_ROWS
    floor = splat(_FLOOR)
    for tile in range(0, n_words, TILE):
        for r in range(n_readouts):
            for word in range(tile, min(tile + TILE, n_words), BLOCK):
                first = r * n_words + word
                for i in range(moments, len(work)):
                    work[i] = _ZERO
                for row in range(0, n_rows, VECTOR_ROWS):
                    at, c_at = (r * n_rows + row) * width, word * n_rows + row
                    _block(
                        work, weights, biases, points, width, first, at,
                        classical, c_at, n_rows, scales[r],
                    )  # fmt: skip
                    of_row = r * n_rows + row
                    norm, factor = load(normalisers, of_row), load(factors, row)
                    moment = load(by_scales, of_row)
                    for w in range(BLOCK):
                        v = w * VECTOR_ROWS
                        log_p = larger(sub(load(work, v), norm), floor)
                        slope = mul(factor, exp(log_p))
                        store(work, v, slope)
                        store(work, moments + v, add(load(work, moments + v), slope))
                        if len(classical) > 0:
                            moment = fma(slope, load(classical, c_at + w * n_rows), moment)
                    store(by_scales, of_row, moment)
                    for group in range(0, width, GROUP):
                        group_at = at + group * VECTOR_ROWS
                        _add_by_points(
                            by_points, group_at, weights, first * width + group, width, work
                        )
                        _add_by_weights(
                            work, sums + group * VECTOR_ROWS, width, work, points, group_at
                        )
                for w in range(BLOCK):
                    by_biases[first + w] += total(load(work, moments + w * VECTOR_ROWS))
                    for k in range(width):
                        vector = sums + (w * width + k) * VECTOR_ROWS
                        by_weights[(first + w) * width + k] += total(load(work, vector))
