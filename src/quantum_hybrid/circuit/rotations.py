"""Rotations of a group of qubits, there and back, as Numba intrinsics (see ``lanes``).

Rotations are in tangent form, RY(theta) / cos(theta / 2): two multiply-adds a pair of amplitudes.
Where rows are is told in bytes, so that no address needs a multiplication.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from quantum_hybrid.circuit.lanes import MAX_GROUP, Rows, fma, following, integer, shuffle, switch

WITH_LANES, CHAIN_EVEN, CHAIN_ODD, RING_EVEN, RING_ODD = range(MAX_GROUP + 1, MAX_GROUP + 6)
"""Kinds of a rotation; 1 to ``MAX_GROUP`` are that many qubits of the rows. ``WITH_LANES``:
``MAX_GROUP`` of them and those that are bits of the lane number, which are the last ones, most
significant first. The others: ``MAX_GROUP`` of the rows, and an entangler's CNOTs move amplitudes
between lanes, the qubit before the lanes' first being 0 (even) or 1 (odd)."""

_I = types.int64
_KINDS = range(1, RING_ODD + 1)


def crossing_kind(entangler: str) -> int:
    """The kind of a rotation that the entangler comes before, for even rows; 0 for no entangler."""
    return {"none": 0, "chain": CHAIN_EVEN, "ring": RING_EVEN}[entangler]


@intrinsic
def rotate(typing, kind, dst, d0, stride, src, s0, images, i0, tangents, t0, lanes_t0):
    """dst rows at d0 + j stride = rotated src rows at s0 ^ images(j).

    ``tangents[t0:]`` belong to the group's qubits, ``tangents[lanes_t0:]`` to those of the lanes.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, into, t = (Rows(context, builder, kinds[i], args[i]) for i in (1, 4, 8))

        def emit(case: int) -> None:
            k = min(case, MAX_GROUP)
            at = _linear(builder, context, args[5], kinds[6], args[6], args[7], k)
            v = [into.load_at(offset) for offset in at]
            if case > WITH_LANES:
                _cross(builder, v, case, inverse=False)
            _rotate_rows(builder, v, t.splats(args[9], k)[::-1])
            if case == WITH_LANES:
                n_bits = out.n_lanes.bit_length() - 1
                _rotate_lanes(builder, v, t.splats(args[10], n_bits)[::-1])
            for offset, value in zip(_spaced(builder, args[2], args[3], k), v, strict=True):
                out.store_at(offset, value)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    signature = types.void(_I, dst, _I, _I, src, _I, images, _I, tangents, _I, _I)
    return signature, codegen


@intrinsic
def unrotate(
    typing, kind, dst, d0, images, i0, adjoint, state, a0, stride, tangents, t0, lanes_t0, gradients
):
    """dst rows at d0 ^ images(j) = adjoint rows at a0 + j stride, rotated back.

    Before that the gradients' rows ``t0`` to ``t0 + k`` (and from ``lanes_t0`` for the lanes) get
    added, lane by lane, twice the derivatives by the angles: <adjoint| -i Y |state>.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, adj, psi, t, grad = (
            Rows(context, builder, kinds[i], args[i]) for i in (1, 5, 6, 9, 12)
        )

        def emit(case: int) -> None:
            k = min(case, MAX_GROUP)
            n_bits = out.n_lanes.bit_length() - 1 if case == WITH_LANES else 0
            at = _spaced(builder, args[7], args[8], k)
            v = [adj.load_at(offset) for offset in at]
            by_row, by_lane = _derivatives(builder, v, psi, at, k, n_bits)
            grad.add_all(following(builder, args[10], k)[::-1], by_row)
            grad.add_all(following(builder, args[11], n_bits)[::-1], by_lane)
            _rotate_rows(builder, v, [builder.fneg(x) for x in t.splats(args[10], k)[::-1]])
            _rotate_lanes(builder, v, [builder.fneg(x) for x in t.splats(args[11], n_bits)[::-1]])
            if case > WITH_LANES:
                _cross(builder, v, case, inverse=True)
            there = _linear(builder, context, args[2], kinds[3], args[3], args[4], k)
            for offset, value in zip(there, v, strict=True):
                out.store_at(offset, value)

        switch(builder, args[0], _KINDS, emit)
        return context.get_dummy_value()

    signature = types.void(
        _I, dst, _I, images, _I, adjoint, state, _I, _I, tangents, _I, _I, gradients
    )
    return signature, codegen


def _spaced(builder: Any, start: Any, stride: Any, k: int) -> list[Any]:
    """Offsets ``start + j stride``."""
    return [builder.add(start, builder.mul(integer(j), stride)) for j in range(2**k)]


def _linear(builder: Any, context: Any, start: Any, array_type: Any, array: Any, at: Any, k: int):
    """Offsets ``start`` xor the images of the bits of ``j``: a permutation linear over GF(2)."""
    data = context.make_array(array_type)(context, builder, array).data
    offsets = [start]
    for index in following(builder, at, k):
        image = builder.load(builder.gep(data, [index]))
        offsets += [builder.xor(offset, image) for offset in offsets]
    return offsets


def _rotate_rows(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    """In place; the tangents are those of bit 0, 1, ..."""
    for bit, tangent in enumerate(tangents):
        minus = builder.fneg(tangent)
        for low in (j for j in range(len(v)) if not j >> bit & 1):
            high = low | 1 << bit
            a, b = v[low], v[high]
            v[low], v[high] = fma(builder, minus, b, a), fma(builder, tangent, a, b)


def _flip_lanes(builder: Any, vector: Any, bit: int) -> Any:
    return shuffle(builder, vector, vector, [i ^ 1 << bit for i in range(vector.type.count)])


def _rotate_lanes(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    n_lanes = v[0].type.count
    for bit, tangent in enumerate(tangents):
        signs = ir.Constant(v[0].type, [1.0 if i >> bit & 1 else -1.0 for i in range(n_lanes)])
        signed = builder.fmul(tangent, signs)
        for j, vector in enumerate(v):
            v[j] = fma(builder, signed, _flip_lanes(builder, vector, bit), vector)


def _sources(crossing: int, n_lanes: int) -> list[int]:
    """Lane that each lane comes from, plus ``n_lanes`` where its qubit 0 is flipped as well.

    A chain's CNOTs write prefix parities, so what they came from is a Gray code.
    """
    first = n_lanes // 2 if crossing in (CHAIN_ODD, RING_ODD) else 0
    ring = crossing in (RING_EVEN, RING_ODD)
    return [(i ^ i >> 1 ^ first) + (n_lanes if ring and i & 1 else 0) for i in range(n_lanes)]


def _cross(builder: Any, v: list[Any], crossing: int, inverse: bool) -> None:
    """Lanes of an entangler; the highest bit of a row's number in the group is qubit 0."""
    n_lanes = v[0].type.count
    lanes = _sources(crossing, n_lanes)
    if inverse:
        targets = {source % n_lanes: i for i, source in enumerate(lanes)}
        lanes = [
            targets[i] + (n_lanes if lanes[targets[i]] >= n_lanes else 0) for i in range(n_lanes)
        ]
    top = len(v) // 2
    v[:] = [shuffle(builder, vector, v[j ^ top], lanes) for j, vector in enumerate(v)]


def _derivatives(
    builder: Any, v: list[Any], psi: Rows, at: Sequence[Any], k: int, n_lane_bits: int
) -> tuple[list[Any], list[Any]]:
    """Twice <v| -i Y |psi> for each bit of the rows and each of the lanes, lane by lane.

    Summed from zero, so that rounding grows with the rows of a group and not of all groups.
    """
    zero = psi.constant(0.0)
    plus, minus, within = [zero] * k, [zero] * k, [zero] * n_lane_bits
    for j, offset in enumerate(at):
        p = psi.load_at(offset)
        for bit in range(k):
            side = minus if j >> bit & 1 else plus
            side[bit] = fma(builder, v[j ^ 1 << bit], p, side[bit])
        for bit in range(n_lane_bits):
            within[bit] = fma(builder, _flip_lanes(builder, v[j], bit), p, within[bit])
    return [builder.fsub(*pair) for pair in zip(plus, minus, strict=True)], within
