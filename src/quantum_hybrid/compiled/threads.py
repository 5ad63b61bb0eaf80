"""Compiled work on several threads.

There are ``torch.get_num_threads()`` threads, the calling one included. All run the same function,
which takes the number of its next piece of work with `next_number` when it has finished one. So a
thread whose core is busy elsewhere delays no other, and a thread that has not started when the work
runs out is cancelled. Pieces must not depend on the number of threads; then no digit of the result
does.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

ALIGNMENT_BYTES = 64

_local = threading.local()


def run_on_threads(
    work: Callable[[NDArray], None], n_pieces: int, n_scalars: int, dtype: np.dtype
) -> None:
    """Call ``work(memory)`` on several threads, at most one for each piece of work.

    memory: ``n_scalars`` numbers of ``dtype`` that belong to the thread, aligned to
    `ALIGNMENT_BYTES`, with undefined contents. ``work`` should release the GIL.
    """

    def take_part() -> None:
        work(_memory(n_scalars, dtype))

    n_threads = torch.get_num_threads()
    helpers = min(n_threads, n_pieces) - 1
    futures = [_pool(os.getpid(), n_threads - 1).submit(take_part) for _ in range(helpers)]
    take_part()
    for future in futures:
        if not future.cancel():
            future.result()


@intrinsic
def next_number(typing, counters, at):
    """``counters[at]``, which is then increased by one, atomically: no two threads get the same."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), one, "seq_cst")

    return types.int64(counters, types.int64), codegen


@lru_cache(maxsize=8)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Idle threads of this process: the child of a fork has none of its parent's threads."""
    return ThreadPoolExecutor(n_threads, "quantum-hybrid")


def _memory(n_scalars: int, dtype: np.dtype) -> NDArray:
    """The thread's memory, which is kept between calls."""
    n_bytes = n_scalars * dtype.itemsize
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = np.empty(n_bytes + ALIGNMENT_BYTES, np.uint8)
        memory = _local.memory = memory[-memory.ctypes.data % ALIGNMENT_BYTES :]
    return memory[:n_bytes].view(dtype)
