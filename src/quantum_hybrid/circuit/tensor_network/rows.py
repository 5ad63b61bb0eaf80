"""The vector instructions of the `tensor_network` kernel, as Numba intrinsics.

A *row* is ``ROW_BYTES`` of a one-dimensional, 64-byte aligned array, one value a *lane*, and known
by the place of its first number. LLVM cuts rows into registers.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from quantum_hybrid.circuit.tensor_network.plan import ALIGNMENT_BYTES, ROW_BYTES


class _Rows:
    """An array's rows as vectors, each known by its first number, counted from ``start``."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> None:
        self.builder = builder
        scalar = context.get_value_type(array_type.dtype)
        self.vector = ir.VectorType(scalar, ROW_BYTES * 8 // array_type.dtype.bitwidth)
        data = context.make_array(array_type)(context, builder, array).data
        self.data = builder.gep(data, [start])

    def _at(self, number: Any) -> Any:
        pointer = self.builder.gep(self.data, [number])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, number: Any) -> Any:
        return self.builder.load(self._at(number), align=ALIGNMENT_BYTES)

    def store(self, number: Any, value: Any) -> None:
        self.builder.store(value, self._at(number), align=ALIGNMENT_BYTES)


class _Stream:
    """A table's numbers, read one after the other."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> None:
        self.builder = builder
        self.data = context.make_array(array_type)(context, builder, array).data
        self.position = cgutils.alloca_once_value(builder, start)

    def take(self, count: int) -> list[Any]:
        at = self.builder.load(self.position)
        self.builder.store(self.builder.add(at, _integer(count)), self.position)
        pointers = [
            self.builder.gep(self.data, [self.builder.add(at, _integer(i))]) for i in range(count)
        ]
        return [self.builder.sext(self.builder.load(p), _INT) for p in pointers]

    @contextmanager
    def until(self, stop: Any) -> Iterator[None]:
        """A loop for as long as there is something to read before ``stop``."""
        builder = self.builder
        head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.icmp_signed("<", builder.load(self.position), stop), body, end)
        builder.position_at_end(body)
        yield
        builder.branch(head)
        builder.position_at_end(end)


_INT = ir.IntType(64)


def _integer(value: int) -> Any:
    return ir.Constant(_INT, value)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    bits = 32 if x.type.element == ir.FloatType() else 64
    name = f"llvm.fma.v{x.type.count}f{bits}"
    signature = ir.FunctionType(x.type, [x.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [x, y, z])


@intrinsic(prefer_literal=True)
def sum_products(typing, add, dst, d0, one, a0, other, b0, stream, start, stop):
    """A table's sums from ``start`` to ``stop``, in dst[d0:], of products of one[a0:] and
    other[b0:]. They replace what is there, or with ``add`` = 1 are added to it."""
    adds = bool(add.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, left, right = (
            _Rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (1, 3, 5)
        )
        numbers = _Stream(context, builder, kinds[7], args[7], args[8])
        total = cgutils.alloca_once(builder, out.vector)
        with numbers.until(args[9]):
            row, n_added, n_subtracted = numbers.take(3)
            builder.store(out.load(row) if adds else ir.Constant(out.vector, None), total)
            middle = builder.add(builder.load(numbers.position), builder.mul(n_added, _integer(2)))
            end = builder.add(middle, builder.mul(n_subtracted, _integer(2)))
            for stop, negate in ((middle, False), (end, True)):
                with numbers.until(stop):
                    x, y = numbers.take(2)
                    factor = left.load(x)
                    factor = builder.fneg(factor) if negate else factor
                    value = _fma(builder, factor, right.load(y), builder.load(total))
                    builder.store(value, total)
            out.store(row, builder.load(total))
        return context.get_dummy_value()

    return types.void(add, dst, d0, one, a0, other, b0, stream, start, stop), codegen


@intrinsic
def add_product(typing, dst, d, one, a, other, b):
    """dst[d] += one[a] * other[b], all three being rows that start at that number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, zero = signature.args, _integer(0)
        out, left, right = (
            _Rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (0, 2, 4)
        )
        out.store(zero, _fma(builder, left.load(zero), right.load(zero), out.load(zero)))
        return context.get_dummy_value()

    return types.void(dst, d, one, a, other, b), codegen
