"""Rows of numbers in vector registers: what the native kernel's intrinsics are made of.

A *row* fills one vector register (see ``layout``), ``ROW_BYTES`` of a one-dimensional array that is
aligned to as much, one value a *lane*. Each intrinsic works on 2 to 16 rows at a time and keeps
them in registers; it is written in LLVM's own vector types, because Numba's loops over rows this
short are many times slower. The intrinsics are in ``rotations``, ``products``, ``parities`` and
``trigonometry``, by what they compute.

Up to ``MAX_GROUP`` neighbouring qubits, a *group*, are worked on together; bit ``b`` of a row's
number within the group is the group's qubit ``k - 1 - b``. What is done with a group depends on a
``kind``: each has code of its own, in which all loops are unrolled, and a jump leads to it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from quantum_hybrid.compiled.layout import chosen

INT = ir.IntType(64)
LAYOUT = ROW_BYTES, MAX_GROUP = chosen(os.environ)
"""Of this process."""
RUN = 256
"""Values added one after the other; a sum of more is a sum of such sums. Otherwise rounding would
grow with the rows of a state: at 20 qubits float32 was wrong in the fifth digit."""


class Rows:
    """An array as rows, from a scalar of this number on."""

    def __init__(
        self, context: Any, builder: Any, array_type: Any, array: Any, start: Any = None
    ) -> None:
        self.builder = builder
        self.scalar = context.get_value_type(array_type.dtype)
        lanes = ROW_BYTES * 8 // array_type.dtype.bitwidth
        self.vector = ir.VectorType(self.scalar, lanes)
        data = context.make_array(array_type)(context, builder, array).data
        self.scalars = data if start is None else builder.gep(data, [start])
        self._bytes = builder.bitcast(self.scalars, ir.IntType(8).as_pointer())
        self._rows = builder.bitcast(self.scalars, self.vector.as_pointer())

    @property
    def n_lanes(self) -> int:
        """Values in a row."""
        return self.vector.count

    def load(self, row: Any) -> Any:
        """The row of this number."""
        return self.builder.load(self.builder.gep(self._rows, [row]), align=ROW_BYTES)

    def store(self, row: Any, value: Any) -> None:
        """Write the row of this number."""
        self.builder.store(value, self.builder.gep(self._rows, [row]), align=ROW_BYTES)

    def load_all(self, rows: Sequence[Any]) -> list[Any]:
        """Rows of these numbers."""
        return [self.load(row) for row in rows]

    def store_all(self, rows: Sequence[Any], values: Sequence[Any]) -> None:
        """Write rows of these numbers."""
        for row, value in zip(rows, values, strict=True):
            self.store(row, value)

    def add_all(self, rows: Sequence[Any], values: Sequence[Any]) -> None:
        """Add to rows of these numbers."""
        for row, value in zip(rows, values, strict=True):
            self.store(row, self.builder.fadd(self.load(row), value))

    def load_at(self, offset: Any) -> Any:
        """The row that begins so many bytes in."""
        return self.builder.load(self._at(offset), align=ROW_BYTES)

    def store_at(self, offset: Any, value: Any) -> None:
        """Write the row that begins so many bytes in."""
        self.builder.store(value, self._at(offset), align=ROW_BYTES)

    def _at(self, offset: Any) -> Any:
        return self.builder.bitcast(
            self.builder.gep(self._bytes, [offset]), self.vector.as_pointer()
        )

    def splats(self, start: Any, count: int) -> list[Any]:
        """Scalars ``start`` to ``start + count``, each in all lanes of a row."""
        return [
            self.splat(self.builder.load(self.builder.gep(self.scalars, [at])))
            for at in following(self.builder, start, count)
        ]

    def splat(self, scalar: Any) -> Any:
        """A row with this scalar in all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, lane(0))
        return shuffle(self.builder, first, first, [0] * self.n_lanes)

    def constant(self, value: float) -> Any:
        """A row with this number in all lanes."""
        return ir.Constant(self.vector, [value] * self.n_lanes)


def integer(value: int) -> Any:
    """A constant."""
    return ir.Constant(INT, value)


def lane(number: int) -> Any:
    """The number of a lane, as LLVM wants it."""
    return ir.Constant(ir.IntType(32), number)


def following(builder: Any, start: Any, count: int) -> list[Any]:
    """``start``, ``start + 1``, ..."""
    return [builder.add(start, integer(i)) for i in range(count)]


def shuffle(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    """A vector of these lanes of two, counted through both."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)


def fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z. llvmlite's own ``fma`` knows scalars only."""
    bits = 32 if x.type.element == ir.FloatType() else 64
    name = f"llvm.fma.v{x.type.count}f{bits}"
    signature = ir.FunctionType(x.type, [x.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


def parity_sign(builder: Any, bits: Any, scalar: Any) -> Any:
    """-1 if an odd number of the bits are 1, else 1."""
    odd = builder.and_(builder.ctpop(bits), integer(1))
    return builder.sitofp(builder.sub(integer(1), builder.shl(odd, integer(1))), scalar)


def sum_in_runs(
    builder: Any,
    start: Any,
    stop: Any,
    zero: Any,
    count: int,
    add: Callable[[Any, Any, Sequence[Any]], None],
) -> list[Any]:
    """``count`` sums over the numbers from ``start`` to ``stop``.

    ``add`` is code for the numbers of one `RUN`, from its first two arguments' first to before the
    second, which adds to what its third one points to.
    """
    totals, sums = (
        [cgutils.alloca_once_value(builder, zero) for _ in range(count)] for _ in range(2)
    )
    with cgutils.for_range_slice(builder, start, stop, integer(RUN), inc=True) as (begin, _):
        after = builder.add(begin, integer(RUN))
        end = builder.select(builder.icmp_signed("<", after, stop), after, stop)
        for slot in sums:
            builder.store(zero, slot)
        add(begin, end, sums)
        for total, slot in zip(totals, sums, strict=True):
            builder.store(builder.fadd(builder.load(total), builder.load(slot)), total)
    return [builder.load(total) for total in totals]


def switch(builder: Any, kind: Any, cases: Sequence[int], emit: Callable[[int], None]) -> None:
    """Code for each case, and a jump to that of ``kind``."""
    after = builder.append_basic_block("after")
    jump = builder.switch(kind, after)
    for case in cases:
        block = builder.append_basic_block(f"kind{case}")
        jump.add_case(integer(case), block)
        with builder.goto_block(block):
            emit(case)
            builder.branch(after)
    builder.position_at_end(after)
