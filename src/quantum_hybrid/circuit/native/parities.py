"""Sums over a state's rows signed by parities of their numbers, and back, as Numba intrinsics.

An output is the sum of the squared amplitudes, signed by the parity of some qubits. These are a
prefix of all qubits for a ring or a chain, and a single one without an entangler; of a ring also
all but the first. So the sums need not be made for each output: the rows are *folded*, one group of
qubits after another from the last (see ``lanes``). Of the 2**k rows of each block, one is left in
each of two ways, the plain sum, from which the outputs of earlier groups come, and over all blocks
2**k sums signed by the parity of the block's number, from which those of this group do. Backward it
is the same from the first group on: the factor by which an amplitude is multiplied is unfolded.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Sequence
from functools import partial
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from quantum_hybrid.compiled.lanes import (
    MAX_GROUP,
    Rows,
    fma,
    following,
    integer,
    parity_sign,
    sum_in_runs,
    switch,
)

PREFIXES, SINGLES = 0, MAX_GROUP
"""What a group's sums are signed by, added to its size for a kind: sum ``m`` by the parity of the
group's first ``m + 1`` qubits, or by its qubit ``m`` alone."""

_I = types.int64
_KINDS = range(1, 2 * MAX_GROUP + 1)


def _masks(kind: int) -> list[int]:
    """The qubits that each sum is signed by, as bits of a row's number."""
    k = (kind - 1) % MAX_GROUP + 1
    if kind > SINGLES:
        return [1 << k - 1 - m for m in range(k)]
    return [2**k - 2 ** (k - 1 - m) for m in range(k)]


def _walsh(builder: Any, v: list[Any]) -> None:
    """Walsh-Hadamard transform in place: entry ``m`` is the sum with the signs of parity ``m``.

    None is a zero; what is not read of the result costs nothing, since LLVM drops it.
    """
    for bit in range(len(v).bit_length() - 1):
        for low in (j for j in range(len(v)) if not j >> bit & 1):
            high = low | 1 << bit
            a, b = v[low], v[high]
            if b is None:
                v[high] = a
            elif a is None:
                v[low], v[high] = b, builder.fneg(b)
            else:
                v[low], v[high] = builder.fadd(a, b), builder.fsub(a, b)


@intrinsic
def fold(typing, kind, totals, signed, g0, src, start, stop, square):
    """Fold the blocks ``start`` to ``stop`` of src rows, or of their squares.

    totals row b = the sum of block b; signed rows g0 + j = the sum of row j of all blocks, each
    times the sign of its block. ``totals`` may be ``src``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        plain, out, into = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 2, 4))

        def block_of(number: Any, sums: Sequence[Any], case: int, squared: bool) -> None:
            k = (case - 1) % MAX_GROUP + 1
            first = builder.shl(number, integer(k))
            v = into.load_all(following(builder, first, 2**k))
            if squared:
                v = [builder.fmul(x, x) for x in v]
            bits = integer(0) if case > SINGLES else number
            sign = out.splat(parity_sign(builder, bits, out.scalar))
            for slot, value in zip(sums, v, strict=True):
                builder.store(fma(builder, sign, value, builder.load(slot)), slot)
            while len(v) > 1:
                v = [builder.fadd(*pair) for pair in zip(v[::2], v[1::2], strict=True)]
            plain.store(number, v[0])

        def emit(case: int) -> None:
            size = 2 ** ((case - 1) % MAX_GROUP + 1)
            zero = out.constant(0.0)

            def add(begin: Any, end: Any, sums: Sequence[Any], squared: bool) -> None:
                loop = cgutils.for_range_slice(builder, begin, end, integer(1), inc=True)
                with loop as (number, _):
                    block_of(number, sums, case, squared)

            with builder.if_else(builder.icmp_signed("!=", args[7], integer(0))) as branches:
                for squared, branch in zip((True, False), branches, strict=True):
                    with branch:
                        run = partial(add, squared=squared)
                        sums = sum_in_runs(builder, args[5], args[6], zero, size, run)
                        out.store_all(following(builder, args[3], size), sums)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    return types.void(_I, totals, signed, _I, src, _I, _I, _I), codegen


@intrinsic
def add_parities(typing, kind, sums, s0, others, signed, g0, h0):
    """sums rows s0 + m += signed rows g0 + j and h0 + j, summed by the kind's parity number m.

    others row 0 += rows g0 + j minus rows h0 + j, summed by the parity of the whole group.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, rest, into = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 4))

        def emit(case: int) -> None:
            size = 2 ** ((case - 1) % MAX_GROUP + 1)
            one, other = (into.load_all(following(builder, args[i], size)) for i in (5, 6))
            both = [builder.fadd(*pair) for pair in zip(one, other, strict=True)]
            between = [builder.fsub(*pair) for pair in zip(one, other, strict=True)]
            _walsh(builder, both)
            _walsh(builder, between)
            masks = _masks(case)
            out.add_all(following(builder, args[2], len(masks)), [both[mask] for mask in masks])
            rest.add_all([integer(0)], between[-1:])

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    return types.void(_I, sums, _I, others, signed, _I, _I), codegen


@intrinsic
def spread_parities(typing, kind, factors, f0, h0, cotangents, c0, others):
    """factors row f0 + j = the sum over m of cotangent row c0 + m, signed by the kind's parity
    number m of j; the row h0 + j likewise.

    others row 0, signed by the parity of all of j, is added in the first and subtracted in the
    second.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, rest = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 4, 6))

        def emit(case: int) -> None:
            masks = _masks(case)
            size = 2 ** len(masks)
            for at, sign in ((args[2], builder.fadd), (args[3], builder.fsub)):
                v: list[Any] = [None] * size
                for mask, row in zip(masks, following(builder, args[5], len(masks)), strict=True):
                    v[mask] = into.load(row)
                whole = out.constant(0.0) if v[-1] is None else v[-1]
                v[-1] = sign(whole, rest.load(integer(0)))
                _walsh(builder, v)
                out.store_all(following(builder, at, size), v)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    return types.void(_I, factors, _I, _I, cotangents, _I, others), codegen


@intrinsic
def unfold(typing, kind, dst, src, factors, f0, start, stop, times, multiply):
    """dst rows of block b = src row b plus the factors' rows f0 + j, times the sign of the block.

    For the blocks ``start`` to ``stop``, from the last; ``dst`` may be ``src``. If ``multiply``,
    the rows of ``times`` are multiplied by that.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, by, psi = (
            Rows(context, builder, signature.args[i], args[i]) for i in (1, 2, 3, 7)
        )

        def emit(case: int) -> None:
            k = (case - 1) % MAX_GROUP + 1
            parts = by.load_all(following(builder, args[4], 2**k))
            with builder.if_else(builder.icmp_signed("!=", args[8], integer(0))) as branches:
                for multiplied, branch in zip((True, False), branches, strict=True):
                    with (
                        branch,
                        cgutils.for_range_slice(
                            builder,
                            builder.sub(args[6], integer(1)),
                            builder.sub(args[5], integer(1)),
                            integer(-1),
                            inc=False,
                        ) as (number, _),
                    ):
                        bits = integer(0) if case > SINGLES else number
                        sign = out.splat(parity_sign(builder, bits, out.scalar))
                        earlier = into.load(number)
                        rows = following(builder, builder.shl(number, integer(k)), 2**k)
                        v = [fma(builder, sign, part, earlier) for part in parts]
                        if multiplied:
                            pairs = zip(v, psi.load_all(rows), strict=True)
                            v = [builder.fmul(*pair) for pair in pairs]
                        out.store_all(rows, v)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, src, factors, _I, _I, _I, times, _I), codegen
