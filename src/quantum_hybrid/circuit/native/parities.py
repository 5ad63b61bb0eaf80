"""Sums over a state's rows signed by parities, forward and backward, as Numba intrinsics.

Output i is the sum of the squared amplitudes, signed by the parity of some qubits: a prefix of all
qubits for a ring or a chain, all but the first for output 0 of a ring, a single qubit without an
entangler. The rows are *folded* instead of summed for each output, one group of qubits after
another from the last. Folding reduces each block of 2**k rows in two ways: to its plain sum, from
which the outputs of earlier groups follow, and, over all blocks, to 2**k sums signed by the parity
of the block's number, from which the outputs of this group follow. The backward pass unfolds, from
the first group on, the factor by which each amplitude is multiplied.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Sequence
from functools import partial
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from quantum_hybrid.circuit.native.groups import sum_in_runs, switch
from quantum_hybrid.compiled.vectors import (
    MAX_GROUP,
    Rows,
    constant,
    fma,
    following,
    integer,
    splat,
)

PREFIXES, SINGLES = 0, MAX_GROUP
"""How a group's sums are signed: sum ``m`` by the parity of the group's first ``m + 1`` qubits, or
by its qubit ``m`` alone. Added to the group's size this is its kind."""

_I = types.int64
_KINDS = range(1, 2 * MAX_GROUP + 1)


def _masks(kind: int) -> list[int]:
    """For each sum of a group the qubits that sign it, as bits of a row's number."""
    k = (kind - 1) % MAX_GROUP + 1
    if kind > SINGLES:
        return [1 << k - 1 - m for m in range(k)]
    return [2**k - 2 ** (k - 1 - m) for m in range(k)]


def _parity_sign(builder: Any, bits: Any, scalar: Any) -> Any:
    """-1 if an odd number of the bits are 1, else 1, as a number of the ``scalar`` type."""
    odd = builder.and_(builder.ctpop(bits), integer(1))
    return builder.sitofp(builder.sub(integer(1), builder.shl(odd, integer(1))), scalar)


def _walsh(builder: Any, v: list[Any]) -> None:
    """Walsh-Hadamard transform in place: entry ``m`` becomes the sum signed by the parity of ``m``.

    None stands for zero. LLVM removes the code of entries that are not read.
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
    """Fold the blocks ``start`` to ``stop`` of src rows, or of their squares if ``square``.

    totals row b = the sum of block b. signed row g0 + j = the sum over the blocks of their row j
    times the sign of the block. ``totals`` may be ``src``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        plain, out, into = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 2, 4))

        def block_of(number: Any, sums: Sequence[Any], case: int, squared: bool) -> None:
            k = (case - 1) % MAX_GROUP + 1
            first = builder.shl(number, integer(k))
            v = into.load_all(following(builder, first, 2**k))
            if squared:
                v = [builder.fmul(x, x) for x in v]
            # A prefix parity contains all earlier qubits, which are the bits of the block's number.
            bits = integer(0) if case > SINGLES else number
            sign = splat(builder, out.vector, _parity_sign(builder, bits, out.scalar))
            for slot, value in zip(sums, v, strict=True):
                builder.store(fma(builder, sign, value, builder.load(slot)), slot)
            # A tree of sums: k roundings instead of 2**k.
            while len(v) > 1:
                v = [builder.fadd(*pair) for pair in zip(v[::2], v[1::2], strict=True)]
            plain.store(number, v[0])

        def emit(case: int) -> None:
            size = 2 ** ((case - 1) % MAX_GROUP + 1)
            zero = constant(out.vector, 0.0)

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
    """sums row s0 + m += sum over j of (signed row g0 + j + row h0 + j), signed by parity m of j.

    others row 0 += sum over j of (row g0 + j - row h0 + j), signed by the parity of all of j.
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
    """The adjoint of `add_parities`: factors rows f0 + j and h0 + j = the sum over m of cotangent
    row c0 + m, signed by parity m of j.

    others row 0, signed by the parity of all of j, is added to the first and subtracted from the
    second.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, rest = (Rows(context, builder, signature.args[i], args[i]) for i in (1, 4, 6))

        def emit(case: int) -> None:
            masks = _masks(case)
            size = 2 ** len(masks)
            for at, sign in ((args[2], builder.fadd), (args[3], builder.fsub)):
                # The transform is symmetric, so it is its own adjoint.
                v: list[Any] = [None] * size
                for mask, row in zip(masks, following(builder, args[5], len(masks)), strict=True):
                    v[mask] = into.load(row)
                whole = constant(out.vector, 0.0) if v[-1] is None else v[-1]
                v[-1] = sign(whole, rest.load(integer(0)))
                _walsh(builder, v)
                out.store_all(following(builder, at, size), v)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    return types.void(_I, factors, _I, _I, cotangents, _I, others), codegen


@intrinsic
def unfold(typing, kind, dst, src, factors, f0, start, stop, times, multiply):
    """dst row j of block b = src row b + factors row f0 + j times the sign of the block.

    For the blocks from ``stop - 1`` down to ``start``. If ``multiply``, dst gets the rows of
    ``times`` multiplied by this. ``dst`` may be ``src``.
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
                    # Downwards: in place, block b overwrites rows from b on, which are read.
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
                        sign = splat(builder, out.vector, _parity_sign(builder, bits, out.scalar))
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
