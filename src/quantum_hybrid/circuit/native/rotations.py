"""Rotations of a group of qubits, forward and backward, as Numba intrinsics.

A *pass* runs over all rows of a state or of a block. It is one loop, so tangents, strides and
images are loaded once. Rotations are in tangent form, RY(theta) / cos(theta / 2), which takes two
multiply-adds a pair of amplitudes. Addresses of rows are offsets in bytes, so none needs a
multiplication.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
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
    shuffle,
)

MOVED = MAX_GROUP
WITH_LANES, CHAIN, RING = range(2 * MAX_GROUP + 1, 2 * MAX_GROUP + 4)
"""Kinds of a pass. 1 to ``MAX_GROUP``: it rotates that many row qubits. With ``MOVED`` added, the
entangler comes first: rows are read from the addresses that it takes to theirs. ``WITH_LANES``: it
rotates ``MAX_GROUP`` row qubits and the qubits that are bits of the lane number (the last ones of
the circuit, most significant first). ``CHAIN``, ``RING``: ``MAX_GROUP`` row qubits after this
entangler, which permutes lanes too."""

_I = types.int64
_KINDS = range(1, RING + 1)


def first_kind(entangler: str, size: int, lanes_hold_qubits: bool) -> int:
    """The kind of a layer's first pass, which applies the entangler."""
    if entangler == "none":
        return size
    if lanes_hold_qubits:
        return {"chain": CHAIN, "ring": RING}[entangler]
    return MOVED + size


@intrinsic
def rotate(
    typing, kind, dst, d0, src, s0, bases, sources, first, count, stride, images, i0, tangents, t0,
    lanes_t0,
):  # fmt: skip
    """Rotate rows of src, counted from ``src[s0]``, into rows of dst, counted from ``dst[d0]``.

    For each i from ``first`` to before ``first + count``: dst rows ``bases[i] + j stride`` = the
    rotation of src rows at the same offsets, or after an entangler at ``sources[i]`` xor the images
    of the bits of j (``images[i0:]``). Without an entangler dst may be src. ``tangents[t0:]`` are
    those of the group's qubits, ``tangents[lanes_t0:]`` those of the lanes' qubits.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, into = (Rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (1, 3))
        t = Rows(context, builder, kinds[12], args[12])
        starts, moved, masks = (_Integers(context, builder, signature, args, i) for i in (5, 6, 10))

        def emit(case: int) -> None:
            k, n_bits = _n_row_bits(case), _n_lane_bits(case, out)
            by_row, by_lane = t.splats(args[13], k)[::-1], t.splats(args[14], n_bits)[::-1]
            images = masks.load_all(following(builder, args[11], k))

            def turn(at: Any, odd: int) -> None:
                there = _spaced(builder, starts.load(at), args[9], k)
                here = _linear(builder, moved.load(at), images) if _is_moved(case) else there
                v = [into.load_at(offset) for offset in here]
                _cross(builder, v, case, odd, inverse=False)
                _rotate_rows(builder, v, by_row)
                _rotate_lanes(builder, v, by_lane)
                for offset, value in zip(there, v, strict=True):
                    out.store_at(offset, value)

            _loop(builder, case, args[7], builder.add(args[7], args[8]), turn)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    integers = (_I, _I, _I, images, _I, tangents, _I, _I)
    return types.void(_I, dst, _I, src, _I, bases, sources, *integers), codegen


@intrinsic
def unrotate(
    typing, kind, dst, d0, adjoint, a0, state, s0, bases, sources, first, count, stride, images, i0,
    tangents, t0, lanes_t0, gradients,
):  # fmt: skip
    """Rotate rows of the adjoint back: each from where `rotate` wrote it to where `rotate` read it.

    state: the state after the pass. Rows ``t0`` to ``t0 + k - 1`` of ``gradients`` (and those from
    ``lanes_t0`` on, for the lanes' qubits) get added, lane by lane, twice the derivatives by the
    angles: <adjoint| -i Y |state>.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, adj, psi = (Rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (1, 3, 5))
        t, grad = (Rows(context, builder, kinds[i], args[i]) for i in (14, 17))
        starts, moved, masks = (_Integers(context, builder, signature, args, i) for i in (7, 8, 12))

        def emit(case: int) -> None:
            k, n_bits = _n_row_bits(case), _n_lane_bits(case, out)
            minus_by_row, minus_by_lane = (
                [builder.fneg(x) for x in t.splats(args[i], count)[::-1]]
                for i, count in ((15, k), (16, n_bits))
            )
            images = masks.load_all(following(builder, args[13], k))
            zero = constant(out.vector, 0.0)

            def turn(at: Any, odd: int, sums: Sequence[Any]) -> None:
                here = _spaced(builder, starts.load(at), args[11], k)
                there = _linear(builder, moved.load(at), images) if _is_moved(case) else here
                v = [adj.load_at(offset) for offset in here]
                # Y commutes with its own rotation and the others act on other qubits, so the states
                # after the pass give the derivatives by all of its angles.
                derivatives = _derivatives(builder, v, psi, here, k, n_bits)
                for slot, value in zip(sums, derivatives, strict=True):
                    builder.store(builder.fadd(builder.load(slot), value), slot)
                # The transpose of the tangent form has the tangent's sign flipped.
                _rotate_rows(builder, v, minus_by_row)
                _rotate_lanes(builder, v, minus_by_lane)
                _cross(builder, v, case, odd, inverse=True)
                for offset, value in zip(there, v, strict=True):
                    out.store_at(offset, value)

            def run(begin: Any, end: Any, sums: Sequence[Any]) -> None:
                _loop(builder, case, begin, end, partial(turn, sums=sums))

            stop = builder.add(args[9], args[10])
            sums = sum_in_runs(builder, args[9], stop, zero, k + n_bits, run)
            rows = (
                following(builder, args[15], k)[::-1] + following(builder, args[16], n_bits)[::-1]
            )
            grad.add_all(rows, sums)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    integers = (_I, _I, _I, images, _I, tangents, _I, _I)
    return types.void(
        _I, dst, _I, adjoint, _I, state, _I, bases, sources, *integers, gradients
    ), codegen


def _n_row_bits(kind: int) -> int:
    return MAX_GROUP if kind >= WITH_LANES else (kind - 1) % MAX_GROUP + 1


def _n_lane_bits(kind: int, rows: Rows) -> int:
    return rows.n_lanes.bit_length() - 1 if kind == WITH_LANES else 0


def _is_moved(kind: int) -> bool:
    return kind > MOVED and kind != WITH_LANES


def _loop(builder: Any, kind: int, first: Any, stop: Any, turn: Callable[[Any, int], None]) -> None:
    """``turn(index, odd)`` for each index. Where the permutation of lanes depends on it, ``odd``
    is the index's last bit, known at compile time; elsewhere 0."""
    step = 2 if kind in (CHAIN, RING) else 1
    with cgutils.for_range_slice(builder, first, stop, integer(step), inc=True) as (at, _):
        for odd in range(step):
            turn(builder.add(at, integer(odd)), odd)


class _Integers:
    """An array of 64-bit integers that is argument ``i`` of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, i: int) -> None:
        self.builder = builder
        self._data = context.make_array(signature.args[i])(context, builder, args[i]).data

    def load(self, at: Any) -> Any:
        return self.builder.load(self.builder.gep(self._data, [at]))

    def load_all(self, at: Sequence[Any]) -> list[Any]:
        return [self.load(index) for index in at]


def _spaced(builder: Any, start: Any, stride: Any, k: int) -> list[Any]:
    """Offsets ``start + j stride`` for j from 0 to ``2**k - 1``."""
    return [builder.add(start, builder.mul(integer(j), stride)) for j in range(2**k)]


def _linear(builder: Any, start: Any, images: Sequence[Any]) -> list[Any]:
    """Offsets ``start`` xor the images of the bits of j: CNOTs are linear over GF(2)."""
    offsets = [start]
    for image in images:
        offsets += [builder.xor(offset, image) for offset in offsets]
    return offsets


def _rotate_rows(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    """In place; the tangents are in the order of bits 0, 1, ..."""
    for bit, tangent in enumerate(tangents):
        minus = builder.fneg(tangent)
        for low in (j for j in range(len(v)) if not j >> bit & 1):
            high = low | 1 << bit
            a, b = v[low], v[high]
            v[low], v[high] = fma(builder, minus, b, a), fma(builder, tangent, a, b)


def _flip_lanes(builder: Any, vector: Any, bit: int) -> Any:
    return shuffle(builder, vector, vector, [i ^ 1 << bit for i in range(vector.type.count)])


def _rotate_lanes(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    """In place, as `_rotate_rows`: the partner of a lane is fetched by a shuffle."""
    n_lanes = v[0].type.count
    for bit, tangent in enumerate(tangents):
        signs = ir.Constant(v[0].type, [1.0 if i >> bit & 1 else -1.0 for i in range(n_lanes)])
        signed = builder.fmul(tangent, signs)
        for j, vector in enumerate(v):
            v[j] = fma(builder, signed, _flip_lanes(builder, vector, bit), vector)


def _sources(kind: int, odd: int, n_lanes: int) -> list[int]:
    """For each lane the lane that it comes from, plus ``n_lanes`` if qubit 0 is flipped as well.

    odd: the value of the qubit before the lanes' first. A chain's CNOTs write prefix parities; the
    inverse is the Gray code i ^ i >> 1. A ring's last CNOT flips qubit 0 where the last lane qubit
    is 1.
    """
    first = n_lanes // 2 if odd else 0
    return [
        (i ^ i >> 1 ^ first) + (n_lanes if kind == RING and i & 1 else 0) for i in range(n_lanes)
    ]


def _cross(builder: Any, v: list[Any], kind: int, odd: int, inverse: bool) -> None:
    """Permute lanes in place as the entangler does. Qubit 0 is the highest bit of j in ``v[j]``."""
    if kind not in (CHAIN, RING):
        return
    n_lanes = v[0].type.count
    lanes = _sources(kind, odd, n_lanes)
    if inverse:
        targets = {source % n_lanes: i for i, source in enumerate(lanes)}
        lanes = [
            targets[i] + (n_lanes if lanes[targets[i]] >= n_lanes else 0) for i in range(n_lanes)
        ]
    top = len(v) // 2
    v[:] = [shuffle(builder, vector, v[j ^ top], lanes) for j, vector in enumerate(v)]


def _derivatives(
    builder: Any, v: list[Any], psi: Rows, at: Sequence[Any], k: int, n_lane_bits: int
) -> list[Any]:
    """<v| -i Y |psi>, twice the derivative, for each bit of the row number, then of the lane's.

    The sums start from zero, so rounding grows with the rows of one group, not of the whole pass.
    """
    zero = constant(psi.vector, 0.0)
    # -i Y = [[0, -1], [1, 0]]: v_1 p_0 is added, v_0 p_1 subtracted. Within the lanes that sign
    # depends on the lane alone; the kernel applies it at the end.
    plus, minus, within = [zero] * k, [zero] * k, [zero] * n_lane_bits
    for j, offset in enumerate(at):
        p = psi.load_at(offset)
        for bit in range(k):
            side = minus if j >> bit & 1 else plus
            side[bit] = fma(builder, v[j ^ 1 << bit], p, side[bit])
        for bit in range(n_lane_bits):
            within[bit] = fma(builder, _flip_lanes(builder, v[j], bit), p, within[bit])
    return [builder.fsub(*pair) for pair in zip(plus, minus, strict=True)] + within
