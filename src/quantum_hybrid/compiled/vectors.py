"""Vector code for the intrinsics of all kernels: rows of numbers in LLVM's vector types.

A *row* is a vector of neighbouring numbers of a one-dimensional array; each number has a *lane*.
Numba's own loops over rows this short are many times slower than LLVM's vector instructions. LLVM
splits a row that is longer than the processor's registers.

The functions here run while an intrinsic is compiled: they emit LLVM instructions and return the
values that these compute. Lengths of rows differ. The native kernel's row fills one register of the
process's layout (`ROW_BYTES`); the tensor network and the losses have fixed lengths.
"""

import os
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from quantum_hybrid.compiled.layout import chosen

INT = ir.IntType(64)
LAYOUT = ROW_BYTES, MAX_GROUP = chosen(os.environ)
"""The layout of this process."""


class Rows:
    """The rows of an array, read and written by row number or by byte offset.

    Args:
        context, builder: as Numba hands them to an intrinsic's code generator.
        array_type, array: Numba's type of the array, and the argument.
        start: the scalar at which row 0 begins; the first one if None.
        row_bytes: length of a row.
        alignment: of every row, in bytes; ``row_bytes`` if None. A row that is not so aligned is
            undefined behaviour: nothing checks it.
    """

    def __init__(
        self,
        context: Any,
        builder: Any,
        array_type: Any,
        array: Any,
        start: Any = None,
        *,
        row_bytes: int = ROW_BYTES,
        alignment: int | None = None,
    ) -> None:
        self.builder = builder
        self.scalar = context.get_value_type(array_type.dtype)
        self.vector = ir.VectorType(self.scalar, row_bytes * 8 // array_type.dtype.bitwidth)
        data = context.make_array(array_type)(context, builder, array).data
        self.scalars = data if start is None else builder.gep(data, [start])
        self._alignment = row_bytes if alignment is None else alignment
        # Pointers that are not used cost nothing: LLVM removes them.
        self._bytes = builder.bitcast(self.scalars, ir.IntType(8).as_pointer())
        self._rows = builder.bitcast(self.scalars, self.vector.as_pointer())

    @property
    def n_lanes(self) -> int:
        """Numbers in a row."""
        return self.vector.count

    def load(self, row: Any) -> Any:
        """The row of this number."""
        return self.builder.load(self.builder.gep(self._rows, [row]), align=self._alignment)

    def store(self, row: Any, value: Any) -> None:
        """Write the row of this number."""
        self.builder.store(value, self.builder.gep(self._rows, [row]), align=self._alignment)

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
        """The row that begins at this byte."""
        return self.builder.load(self._at(offset), align=self._alignment)

    def store_at(self, offset: Any, value: Any) -> None:
        """Write the row that begins at this byte."""
        self.builder.store(value, self._at(offset), align=self._alignment)

    def _at(self, offset: Any) -> Any:
        pointer = self.builder.gep(self._bytes, [offset])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def splats(self, start: Any, count: int) -> list[Any]:
        """Scalars ``start`` to ``start + count``, each in all lanes of a row."""
        pointers = [
            self.builder.gep(self.scalars, [at]) for at in following(self.builder, start, count)
        ]
        return [splat(self.builder, self.vector, self.builder.load(p)) for p in pointers]


def integer(value: int) -> Any:
    """A constant 64-bit integer."""
    return ir.Constant(INT, value)


def lane(number: int) -> Any:
    """The number of a lane, which LLVM takes as 32 bits."""
    return ir.Constant(ir.IntType(32), number)


def following(builder: Any, start: Any, count: int) -> list[Any]:
    """``start``, ``start + 1``, ..., ``start + count - 1``."""
    return [builder.add(start, integer(i)) for i in range(count)]


def constant(vector: Any, value: float) -> Any:
    """A vector of this type with the same number in all lanes."""
    return ir.Constant(vector, [value] * vector.count)


def splat(builder: Any, vector: Any, scalar: Any) -> Any:
    """A vector of this type with a scalar, known at run time, in all lanes."""
    # LLVM recognises this pair of instructions as a broadcast.
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, lane(0))
    return shuffle(builder, first, first, [0] * vector.count)


def shuffle(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    """A vector made of these lanes; those of ``other`` are numbered after those of ``one``."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)


def fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    # llvmlite's own `fma` supports scalars only.
    bits = 32 if x.type.element == ir.FloatType() else 64
    name = f"llvm.fma.v{x.type.count}f{bits}"
    signature = ir.FunctionType(x.type, [x.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


def polynomial(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """c_0 + c_1 x + c_2 x^2 + ... by Horner's rule."""
    value = constant(x.type, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = fma(builder, value, x, constant(x.type, coefficient))
    return value
