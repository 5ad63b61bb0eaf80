"""What the native kernel's intrinsics share: code for each kind of group, and sums in runs.

Up to ``MAX_GROUP`` neighbouring qubits, a *group*, are processed together. Bit ``b`` of a row's
number within the group is the group's qubit ``k - 1 - b``. What happens to a group depends on a
*kind*: each kind has its own code with all loops unrolled, and `switch` jumps to it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from quantum_hybrid.compiled.vectors import integer

RUN = 256
"""Values that are added one after the other; a longer sum is a sum of such sums. Otherwise the
rounding error would grow with the rows of a state: at 20 qubits float32 was wrong in the fifth
digit."""


def sum_in_runs(
    builder: Any,
    start: Any,
    stop: Any,
    zero: Any,
    count: int,
    add: Callable[[Any, Any, Sequence[Any]], None],
) -> list[Any]:
    """``count`` sums over the indices from ``start`` to before ``stop``.

    ``add(begin, end, sums)`` emits code that adds the terms of the indices from ``begin`` to before
    ``end``, at most `RUN` of them, to the values that ``sums`` point to.
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
    """Code for each case, and a jump to the one that equals ``kind``."""
    after = builder.append_basic_block("after")
    jump = builder.switch(kind, after)
    for case in cases:
        block = builder.append_basic_block(f"kind{case}")
        jump.add_case(integer(case), block)
        with builder.goto_block(block):
            emit(case)
            builder.branch(after)
    builder.position_at_end(after)
