"""The vector instructions of the native kernel, as Numba intrinsics.

A *row* is 64 bytes of a one-dimensional, 64-byte aligned array: 16 float32 or 8 float64, one value
a *lane*. Each intrinsic works on 2 to 16 rows at a time and keeps them in registers; it is written
in LLVM's own vector types, because Numba's loops over rows this short are many times slower.

``k``, ``in_lanes`` and ``crossing`` are literals: each value makes code of its own. ``k`` qubits
are rotated together; bit ``b`` of a row's number within the group is the group's qubit
``k - 1 - b``. With ``in_lanes`` the last 4 (float64: 3) qubits are the bits of the lane number,
most significant first, instead of the lanes being samples. ``crossing`` then says how an entangler
moves amplitudes between lanes.

Rotations are in tangent form, RY(theta) / cos(theta / 2): two multiply-adds a pair of amplitudes.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROW_BYTES = 64

STRAIGHT, CHAIN_EVEN, CHAIN_ODD, RING_EVEN, RING_ODD = range(5)
"""Values of ``crossing``: no CNOT among the lanes; a chain or a ring, the qubit before the lanes'
first being 0 (even) or 1 (odd)."""

_INT = ir.IntType(64)


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
    if crossing == STRAIGHT:
        return
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
    """Walsh-Hadamard transform in place: entry ``m`` is the sum with the signs of parity ``m``."""
    for bit in range(len(v).bit_length() - 1):
        for low in (j for j in range(len(v)) if not j >> bit & 1):
            a, b = v[low], v[low | 1 << bit]
            v[low], v[low | 1 << bit] = builder.fadd(a, b), builder.fsub(a, b)


_I = types.int64


@intrinsic(prefer_literal=True)
def rotate(
    typing, k, in_lanes, crossing, dst, d0, shift, src, s0, images, i0, tangents, t0, lanes_t0
):
    """dst rows d0 + (j << shift) = rotated src rows s0 ^ images(j).

    ``tangents[t0:]`` belong to the group's qubits, ``tangents[lanes_t0:]`` to those of the lanes.
    """
    n, lanes, cross = k.literal_value, in_lanes.literal_value, crossing.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, into, t = (_Rows(context, builder, kinds[i], args[i]) for i in (3, 6, 10))
        rows = _linear(builder, context, args[7], kinds[8], args[8], args[9], n)
        v = into.load_all(rows)
        _cross(builder, v, cross, inverse=False)
        _rotate_rows(builder, v, t.splats(args[11], n)[::-1])
        if lanes:
            n_bits = out.n_lanes.bit_length() - 1
            _rotate_lanes(builder, v, t.splats(args[12], n_bits)[::-1])
        out.store_all(_spaced(builder, args[4], args[5], n), v)
        return context.get_dummy_value()

    signature = types.void(
        k, in_lanes, crossing, dst, _I, _I, src, _I, images, _I, tangents, _I, _I
    )
    return signature, codegen


@intrinsic(prefer_literal=True)
def unrotate(
    typing, k, in_lanes, crossing, dst, d0, images, i0, adjoint, state, a0, shift, tangents, t0,
    lanes_t0, gradients,
):  # fmt: skip
    """dst rows d0 ^ images(j) = adjoint rows a0 + (j << shift), rotated back.

    Before that the gradients' rows ``t0`` to ``t0 + k`` (and from ``lanes_t0`` for the lanes) get
    added, lane by lane, twice the derivatives by the angles: <adjoint| -i Y |state>.
    """
    n, lanes, cross = k.literal_value, in_lanes.literal_value, crossing.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, adj, psi, t, grad = (
            _Rows(context, builder, kinds[i], args[i]) for i in (3, 7, 8, 11, 14)
        )
        rows = _spaced(builder, args[9], args[10], n)
        v = adj.load_all(rows)
        slots = _following(builder, args[12], n)[::-1]
        # Summed from zero, so that rounding grows with the rows of a group and not of all groups.
        zero = grad.constant([0.0] * grad.n_lanes)
        plus, minus = [zero] * n, [zero] * n
        n_bits = out.n_lanes.bit_length() - 1 if lanes else 0
        within = [zero] * n_bits
        for j, row in enumerate(rows):
            p = psi.load(row)
            for bit in range(n):
                side = minus if j >> bit & 1 else plus
                side[bit] = _fma(builder, v[j ^ 1 << bit], p, side[bit])
            for bit in range(n_bits):
                within[bit] = _fma(builder, _flip_lanes(builder, v[j], bit), p, within[bit])
        sums = [builder.fsub(*pair) for pair in zip(plus, minus, strict=True)]
        grad.add_all(slots, sums)
        grad.add_all(_following(builder, args[13], n_bits)[::-1], within)
        backwards = [builder.fneg(x) for x in t.splats(args[12], n)[::-1]]
        _rotate_rows(builder, v, backwards)
        if lanes:
            lane_tangents = t.splats(args[13], n_bits)[::-1]
            _rotate_lanes(builder, v, [builder.fneg(x) for x in lane_tangents])
        _cross(builder, v, cross, inverse=True)
        out.store_all(_linear(builder, context, args[4], kinds[5], args[5], args[6], n), v)
        return context.get_dummy_value()

    signature = types.void(
        k, in_lanes, crossing, dst, _I, images, _I, adjoint, state, _I, _I, tangents, _I, _I,
        gradients,
    )  # fmt: skip
    return signature, codegen


@intrinsic(prefer_literal=True)
def squares(typing, k, dst, src, s0):
    """dst row m = sum over j of (src row s0 + j) squared, with the sign of the parity of j & m."""
    n = k.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into = (_Rows(context, builder, signature.args[i], args[i]) for i in (1, 2))
        v = [builder.fmul(x, x) for x in into.load_all(_following(builder, args[3], 2**n))]
        _walsh(builder, v)
        out.store_all(_following(builder, _integer(0), 2**n), v)
        return context.get_dummy_value()

    return types.void(k, dst, src, _I), codegen


@intrinsic(prefer_literal=True)
def times_parities(typing, k, dst, src, s0, factors):
    """dst row s0 + j = src row s0 + j times the sum over m of factor row m, signed as above."""
    n = k.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, low = (_Rows(context, builder, signature.args[i], args[i]) for i in (1, 2, 4))
        v = low.load_all(_following(builder, _integer(0), 2**n))
        _walsh(builder, v)
        rows = _following(builder, args[3], 2**n)
        pairs = zip(v, into.load_all(rows), strict=True)
        out.store_all(rows, [builder.fmul(*pair) for pair in pairs])
        return context.get_dummy_value()

    return types.void(k, dst, src, _I, factors), codegen


@intrinsic(prefer_literal=True)
def contract(typing, k, dst, d0, src, s0, trig, q0, prefix, p0, gradients):
    """dst row d0 = the src rows s0 + j against the product state of qubits q0 to q0 + k.

    Qubit q's cosine and sine are the trig rows 2 q and 2 q + 1. Gradient row q gets added the
    prefix row p0 times the same product with (cos, sin) of that qubit replaced by (-sin, cos).
    """
    n = k.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into, tr, pre, grad = (
            _Rows(context, builder, signature.args[i], args[i]) for i in (1, 3, 5, 7, 9)
        )
        pairs = tr.load_all(_following(builder, builder.shl(args[6], _integer(1)), 2 * n))
        trigs = list(zip(pairs[::2], pairs[1::2], strict=True))
        before = [[pre.load(args[8])]]
        for cos, sin in trigs[:-1]:
            before.append([builder.fmul(x, y) for x in before[-1] for y in (cos, sin)])
        v = into.load_all(_following(builder, args[4], 2**n))
        slots = _following(builder, args[6], n)
        for qubit in reversed(range(n)):
            cos, sin = trigs[qubit]
            halves = list(zip(v[::2], v[1::2], strict=True))
            total = grad.load(slots[qubit])
            for (low, high), weight in zip(halves, before[qubit], strict=True):
                turned = builder.fsub(builder.fmul(cos, high), builder.fmul(sin, low))
                total = _fma(builder, weight, turned, total)
            grad.store(slots[qubit], total)
            v = [_fma(builder, cos, low, builder.fmul(sin, high)) for low, high in halves]
        out.store(args[2], v[0])
        return context.get_dummy_value()

    return types.void(k, dst, _I, src, _I, trig, _I, prefix, _I, gradients), codegen


@intrinsic
def expand(typing, dst, row, trig, qubit):
    """dst rows 2 row, 2 row + 1 = dst row times the qubit's cosine, times its sine."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, tr = (_Rows(context, builder, signature.args[i], args[i]) for i in (0, 2))
        x = out.load(args[1])
        cos_sin = tr.load_all(_following(builder, builder.shl(args[3], _integer(1)), 2))
        rows = _following(builder, builder.shl(args[1], _integer(1)), 2)
        out.store_all(rows, [builder.fmul(x, y) for y in cos_sin])
        return context.get_dummy_value()

    return types.void(dst, _I, trig, _I), codegen


@intrinsic
def add_scaled(typing, dst, row, src, src_row, factor):
    """dst row += factor times src row."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, into = (_Rows(context, builder, signature.args[i], args[i]) for i in (0, 2))
        total = _fma(builder, out.splat(args[4]), into.load(args[3]), out.load(args[1]))
        out.store(args[1], total)
        return context.get_dummy_value()

    return types.void(dst, _I, src, _I, dst.dtype), codegen
