"""Sums of products of rows, as Numba intrinsics: all that the `tensor_network` kernel computes.

A row is ``ROW_BYTES`` of a one-dimensional array that is aligned to 64 bytes (see
``compiled.vectors``).
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from quantum_hybrid.circuit.tensor_network.network import ROW_BYTES
from quantum_hybrid.compiled.threads import ALIGNMENT_BYTES
from quantum_hybrid.compiled.vectors import INT, Rows, constant, fma, integer


def _rows(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> Rows:
    return Rows(
        context, builder, array_type, array, start, row_bytes=ROW_BYTES, alignment=ALIGNMENT_BYTES
    )


class _Stream:
    """The numbers of a table's stream, read one after the other; the code keeps the position."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> None:
        self.builder = builder
        self.data = context.make_array(array_type)(context, builder, array).data
        self.position = cgutils.alloca_once_value(builder, start)

    def take(self, count: int) -> list[Any]:
        """The next ``count`` numbers."""
        at = self.builder.load(self.position)
        self.builder.store(self.builder.add(at, integer(count)), self.position)
        pointers = [
            self.builder.gep(self.data, [self.builder.add(at, integer(i))]) for i in range(count)
        ]
        return [self.builder.sext(self.builder.load(p), INT) for p in pointers]

    @contextmanager
    def until(self, stop: Any) -> Iterator[None]:
        """A loop around the code in this context, until the position reaches ``stop``."""
        builder = self.builder
        head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.icmp_signed("<", builder.load(self.position), stop), body, end)
        builder.position_at_end(body)
        yield
        builder.branch(head)
        builder.position_at_end(end)


@intrinsic(prefer_literal=True)
def sum_products(typing, add, dst, d0, one, a0, other, b0, stream, start, stop):
    """Compute the sums that ``stream[start:stop]`` lists (see `network.Table`).

    Rows of dst are counted from ``dst[d0]``; a product is a row of ``one[a0:]`` times a row of
    ``other[b0:]``. add: the literal 1 to add to the rows of dst, 0 to replace them.
    """
    adds = bool(add.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        out, left, right = (
            _rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (1, 3, 5)
        )
        numbers = _Stream(context, builder, kinds[7], args[7], args[8])
        # A stack slot in this code; LLVM keeps it in registers throughout a sum.
        total = cgutils.alloca_once(builder, out.vector)
        with numbers.until(args[9]):
            row, n_added, n_subtracted = numbers.take(3)
            builder.store(out.load_at(row) if adds else constant(out.vector, 0.0), total)
            # Added products come first, so no product needs a sign of its own in the stream.
            middle = builder.add(builder.load(numbers.position), builder.mul(n_added, integer(2)))
            end = builder.add(middle, builder.mul(n_subtracted, integer(2)))
            for stop, negate in ((middle, False), (end, True)):
                with numbers.until(stop):
                    x, y = numbers.take(2)
                    factor = left.load_at(x)
                    factor = builder.fneg(factor) if negate else factor
                    value = fma(builder, factor, right.load_at(y), builder.load(total))
                    builder.store(value, total)
            out.store_at(row, builder.load(total))
        return context.get_dummy_value()

    return types.void(add, dst, d0, one, a0, other, b0, stream, start, stop), codegen


@intrinsic
def add_product(typing, dst, d, one, a, other, b):
    """The row at dst[d] += the row at one[a] times the row at other[b]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, zero = signature.args, integer(0)
        out, left, right = (
            _rows(context, builder, kinds[i], args[i], args[i + 1]) for i in (0, 2, 4)
        )
        out.store(zero, fma(builder, left.load(zero), right.load(zero), out.load(zero)))
        return context.get_dummy_value()

    return types.void(dst, d, one, a, other, b), codegen
