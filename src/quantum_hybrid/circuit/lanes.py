"""The vector instructions of the native kernel, as Numba intrinsics.

A *row* is 64 bytes of a one-dimensional, 64-byte aligned array: 16 float32 or 8 float64, one value
a *lane*. Each intrinsic works on 2 to 16 rows at a time and keeps them in registers; it is written
in LLVM's own vector types, because Numba's loops over rows this short are many times slower.

Up to four neighbouring qubits, a *group*, are worked on together; bit ``b`` of a row's number
within the group is the group's qubit ``k - 1 - b``. What is done with a group depends on a
``kind``: each has code of its own, in which all loops are unrolled, and a jump leads to it.

Rotations are in tangent form, RY(theta) / cos(theta / 2): two multiply-adds a pair of amplitudes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROW_BYTES = 64
MAX_GROUP = 4
"""Qubits in a group: 16 rows, half of AVX-512's registers."""

WITH_LANES, CHAIN_EVEN, CHAIN_ODD, RING_EVEN, RING_ODD = range(MAX_GROUP + 1, MAX_GROUP + 6)
"""Kinds of a rotation; 1 to ``MAX_GROUP`` are that many qubits of the rows. ``WITH_LANES``:
``MAX_GROUP`` of them and those that are bits of the lane number, which are the last ones, most
significant first. The others: ``MAX_GROUP`` of the rows, and an entangler's CNOTs move amplitudes
between lanes, the qubit before the lanes' first being 0 (even) or 1 (odd)."""

PREFIXES, SINGLES = 0, MAX_GROUP
"""What a sum over a group is signed by, added to its size for a kind: number 0 by nothing, number
``m`` by the parity of the group's first ``m`` qubits, or by that of its qubit ``m - 1``."""

_INT = ir.IntType(64)


def crossing_kind(entangler: str) -> int:
    """The kind of a rotation that the entangler comes before, for even rows; 0 for no entangler."""
    return {"none": 0, "chain": CHAIN_EVEN, "ring": RING_EVEN}[entangler]


class _Rows:
    """An array as rows."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        self.builder = builder
        self.scalar = context.get_value_type(array_type.dtype)
        lanes = ROW_BYTES * 8 // array_type.dtype.bitwidth
        self.vector = ir.VectorType(self.scalar, lanes)
        self.scalars = context.make_array(array_type)(context, builder, array).data
        self.data = builder.bitcast(self.scalars, self.vector.as_pointer())

    @property
    def n_lanes(self) -> int:
        return self.vector.count

    def load(self, row: Any) -> Any:
        return self.builder.load(self.builder.gep(self.data, [row]), align=ROW_BYTES)

    def store(self, row: Any, value: Any) -> None:
        self.builder.store(value, self.builder.gep(self.data, [row]), align=ROW_BYTES)

    def load_all(self, rows: Sequence[Any]) -> list[Any]:
        return [self.load(row) for row in rows]

    def store_all(self, rows: Sequence[Any], values: Sequence[Any]) -> None:
        for row, value in zip(rows, values, strict=True):
            self.store(row, value)

    def add_all(self, rows: Sequence[Any], values: Sequence[Any]) -> None:
        for row, value in zip(rows, values, strict=True):
            self.store(row, self.builder.fadd(self.load(row), value))

    def splats(self, start: Any, count: int) -> list[Any]:
        """Scalars ``start`` to ``start + count``, each in all lanes of a vector."""
        return [
            self.splat(self.builder.load(self.builder.gep(self.scalars, [at])))
            for at in _following(self.builder, start, count)
        ]

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, scalar, zero)
        return _shuffle(self.builder, first, first, [0] * self.n_lanes)

    def constant(self, values: Sequence[float]) -> Any:
        return ir.Constant(self.vector, list(values))


def _integer(value: int) -> Any:
    return ir.Constant(_INT, value)


def _following(builder: Any, start: Any, count: int) -> list[Any]:
    return [builder.add(start, _integer(i)) for i in range(count)]


def _spaced(builder: Any, start: Any, shift: Any, k: int) -> list[Any]:
    """Rows ``start + (j << shift)``."""
    return [builder.add(start, builder.shl(_integer(j), shift)) for j in range(2**k)]


def _linear(builder: Any, context: Any, start: Any, array_type: Any, array: Any, at: Any, k: int):
    """Rows ``start`` xor the images of the bits of ``j``: a permutation linear over GF(2)."""
    data = context.make_array(array_type)(context, builder, array).data
    rows = [start]
    for index in _following(builder, at, k):
        image = builder.load(builder.gep(data, [index]))
        rows += [builder.xor(row, image) for row in rows]
    return rows


def _shuffle(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z. llvmlite's own ``fma`` knows scalars only."""
    bits = 32 if x.type.element == ir.FloatType() else 64
    name = f"llvm.fma.v{x.type.count}f{bits}"
    signature = ir.FunctionType(x.type, [x.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


def _rotate_rows(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    """In place; the tangents are those of bit 0, 1, ..."""
    for bit, tangent in enumerate(tangents):
        minus = builder.fneg(tangent)
        for low in (j for j in range(len(v)) if not j >> bit & 1):
            high = low | 1 << bit
            a, b = v[low], v[high]
            v[low], v[high] = _fma(builder, minus, b, a), _fma(builder, tangent, a, b)


def _flip_lanes(builder: Any, vector: Any, bit: int) -> Any:
    return _shuffle(builder, vector, vector, [i ^ 1 << bit for i in range(vector.type.count)])


def _rotate_lanes(builder: Any, v: list[Any], tangents: Sequence[Any]) -> None:
    n_lanes = v[0].type.count
    for bit, tangent in enumerate(tangents):
        signs = ir.Constant(v[0].type, [1.0 if i >> bit & 1 else -1.0 for i in range(n_lanes)])
        signed = builder.fmul(tangent, signs)
        for j, vector in enumerate(v):
            v[j] = _fma(builder, signed, _flip_lanes(builder, vector, bit), vector)


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
    v[:] = [_shuffle(builder, vector, v[j ^ top], lanes) for j, vector in enumerate(v)]


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


def parity_masks(kind: int) -> list[int]:
    """The parities that a sum of this kind is signed by, each as the bits of a row's number."""
    k = (kind - 1) % MAX_GROUP + 1
    if kind > SINGLES:
        return [0, *(1 << k - m for m in range(1, k + 1))]
    return [2**k - 2 ** (k - m) for m in range(k + 1)]


def _switch(builder: Any, kind: Any, cases: Sequence[int], emit: Callable[[int], None]) -> None:
    """Code for each case, and a jump to that of ``kind``."""
    after = builder.append_basic_block("after")
    switch = builder.switch(kind, after)
    for case in cases:
        block = builder.append_basic_block(f"kind{case}")
        switch.add_case(_integer(case), block)
        with builder.goto_block(block):
            emit(case)
            builder.branch(after)
    builder.position_at_end(after)


_I = types.int64
_ROTATIONS = range(1, RING_ODD + 1)
_SUMS = range(1, 2 * MAX_GROUP + 1)
_SIZES = range(1, MAX_GROUP + 1)


@intrinsic
def rotate(typing, kind, dst, d0, shift, src, s0, images, i0, tangents, t0, lanes_t0):
    """dst rows d0 + (j << shift) = rotated src rows s0 ^ images(j).

    ``tangents[t0:]`` belong to the group's qubits, ``tangents[lanes_t0:]`` to those of the lanes.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, into, t = (_Rows(context, builder, kinds[i], args[i]) for i in (1, 4, 8))

        def emit(case: int) -> None:
            k = min(case, MAX_GROUP)
            rows = _linear(builder, context, args[5], kinds[6], args[6], args[7], k)
            v = into.load_all(rows)
            if case > WITH_LANES:
                _cross(builder, v, case, inverse=False)
            _rotate_rows(builder, v, t.splats(args[9], k)[::-1])
            if case == WITH_LANES:
                n_bits = out.n_lanes.bit_length() - 1
                _rotate_lanes(builder, v, t.splats(args[10], n_bits)[::-1])
            out.store_all(_spaced(builder, args[2], args[3], k), v)

        _switch(builder, args[0], _ROTATIONS, emit)
        return context.get_dummy_value()

    signature = types.void(_I, dst, _I, _I, src, _I, images, _I, tangents, _I, _I)
    return signature, codegen


@intrinsic
def unrotate(
    typing, kind, dst, d0, images, i0, adjoint, state, a0, shift, tangents, t0, lanes_t0, gradients
):
    """dst rows d0 ^ images(j) = adjoint rows a0 + (j << shift), rotated back.

    Before that the gradients' rows ``t0`` to ``t0 + k`` (and from ``lanes_t0`` for the lanes) get
    added, lane by lane, twice the derivatives by the angles: <adjoint| -i Y |state>.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, adj, psi, t, grad = (
            _Rows(context, builder, kinds[i], args[i]) for i in (1, 5, 6, 9, 12)
        )

        def emit(case: int) -> None:
            k = min(case, MAX_GROUP)
            n_bits = out.n_lanes.bit_length() - 1 if case == WITH_LANES else 0
            rows = _spaced(builder, args[7], args[8], k)
            v = adj.load_all(rows)
            by_row, by_lane = _derivatives(builder, v, psi, rows, k, n_bits)
            grad.add_all(_following(builder, args[10], k)[::-1], by_row)
            grad.add_all(_following(builder, args[11], n_bits)[::-1], by_lane)
            _rotate_rows(builder, v, [builder.fneg(x) for x in t.splats(args[10], k)[::-1]])
            _rotate_lanes(builder, v, [builder.fneg(x) for x in t.splats(args[11], n_bits)[::-1]])
            if case > WITH_LANES:
                _cross(builder, v, case, inverse=True)
            out.store_all(_linear(builder, context, args[2], kinds[3], args[3], args[4], k), v)

        _switch(builder, args[0], _ROTATIONS, emit)
        return context.get_dummy_value()

    signature = types.void(
        _I, dst, _I, images, _I, adjoint, state, _I, _I, tangents, _I, _I, gradients
    )
    return signature, codegen


def _derivatives(
    builder: Any, v: list[Any], psi: _Rows, rows: list[Any], k: int, n_lane_bits: int
) -> tuple[list[Any], list[Any]]:
    """Twice <v| -i Y |psi> for each bit of the rows and each of the lanes, lane by lane.

    Summed from zero, so that rounding grows with the rows of a group and not of all groups.
    """
    zero = psi.constant([0.0] * psi.n_lanes)
    plus, minus, within = [zero] * k, [zero] * k, [zero] * n_lane_bits
    for j, row in enumerate(rows):
        p = psi.load(row)
        for bit in range(k):
            side = minus if j >> bit & 1 else plus
            side[bit] = _fma(builder, v[j ^ 1 << bit], p, side[bit])
        for bit in range(n_lane_bits):
            within[bit] = _fma(builder, _flip_lanes(builder, v[j], bit), p, within[bit])
    return [builder.fsub(*pair) for pair in zip(plus, minus, strict=True)], within


@intrinsic
def squares(typing, kind, dst, src, s0):
    """dst row m = sum over j of (src row s0 + j) squared, signed by parity number m of the kind."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into = (_Rows(context, builder, signature.args[i], args[i]) for i in (1, 2))

        def emit(case: int) -> None:
            masks = parity_masks(case)
            rows = _following(builder, args[3], 2 ** (len(masks) - 1))
            v = [builder.fmul(x, x) for x in into.load_all(rows)]
            _walsh(builder, v)
            into_rows = _following(builder, _integer(0), len(masks))
            out.store_all(into_rows, [v[mask] for mask in masks])

        _switch(builder, args[0], _SUMS, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, src, _I), codegen


@intrinsic
def times_parities(typing, kind, dst, src, s0, factors):
    """dst row s0 + j = src row s0 + j times the sum over m of factor row m, signed as above."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, low = (_Rows(context, builder, signature.args[i], args[i]) for i in (1, 2, 4))

        def emit(case: int) -> None:
            masks = parity_masks(case)
            v: list[Any] = [None] * 2 ** (len(masks) - 1)
            for number, mask in enumerate(masks):
                v[mask] = low.load(_integer(number))
            _walsh(builder, v)
            rows = _following(builder, args[3], len(v))
            pairs = zip(v, into.load_all(rows), strict=True)
            out.store_all(rows, [builder.fmul(*pair) for pair in pairs])

        _switch(builder, args[0], _SUMS, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, src, _I, factors), codegen


@intrinsic
def odd(typing, bits):
    """Whether an odd number of the bits are 1: 1 or 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(builder.ctpop(args[0]), _integer(1))

    return types.int64(_I), codegen


@intrinsic
def contract(typing, k, dst, d0, src, s0, trig, q0, prefix, p0, gradients):
    """dst row d0 = the src rows s0 + j against the product state of qubits q0 to q0 + k.

    Qubit q's cosine and sine are the trig rows 2 q and 2 q + 1. Gradient row q gets added the
    prefix row p0 times the same product with (cos, sin) of that qubit replaced by (-sin, cos).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, tr, pre, grad = (
            _Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 5, 7, 9)
        )

        def emit(size: int) -> None:
            trigs = _trigs(builder, tr, args[6], size)
            before = [[pre.load(args[8])]]
            for cos, sin in trigs[:-1]:
                before.append([builder.fmul(x, y) for x in before[-1] for y in (cos, sin)])
            v = into.load_all(_following(builder, args[4], 2**size))
            slots = _following(builder, args[6], size)
            for qubit in reversed(range(size)):
                cos, sin = trigs[qubit]
                halves = list(zip(v[::2], v[1::2], strict=True))
                total = grad.load(slots[qubit])
                for (low, high), weight in zip(halves, before[qubit], strict=True):
                    turned = builder.fsub(builder.fmul(cos, high), builder.fmul(sin, low))
                    total = _fma(builder, weight, turned, total)
                grad.store(slots[qubit], total)
                v = [_fma(builder, cos, low, builder.fmul(sin, high)) for low, high in halves]
            out.store(args[2], v[0])

        _switch(builder, args[0], _SIZES, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, _I, src, _I, trig, _I, prefix, _I, gradients), codegen


@intrinsic
def expand(typing, k, dst, d0, src, s0, trig, q0):
    """dst rows d0 + j = src row s0 times the product state of qubits q0 to q0 + k."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, tr = (_Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 5))

        def emit(size: int) -> None:
            v = [into.load(args[4])]
            for pair in _trigs(builder, tr, args[6], size):
                v = [builder.fmul(x, y) for x in v for y in pair]
            out.store_all(_following(builder, args[2], 2**size), v)

        _switch(builder, args[0], _SIZES, emit)
        return context.get_dummy_value()

    return types.void(_I, dst, _I, src, _I, trig, _I), codegen


def _trigs(builder: Any, trig: _Rows, qubit: Any, k: int) -> list[tuple[Any, Any]]:
    """Cosine and sine of ``k`` qubits."""
    rows = trig.load_all(_following(builder, builder.shl(qubit, _integer(1)), 2 * k))
    return list(zip(rows[::2], rows[1::2], strict=True))


@intrinsic
def add_scaled(typing, dst, row, src, src_row, factor):
    """dst row += factor times src row."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into = (_Rows(context, builder, signature.args[i], args[i]) for i in (0, 2))
        total = _fma(builder, out.splat(args[4]), into.load(args[3]), out.load(args[1]))
        out.store(args[1], total)
        return context.get_dummy_value()

    return types.void(dst, _I, src, _I, dst.dtype), codegen
