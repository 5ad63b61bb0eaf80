"""Compiled work shared out among threads.

As many threads as ``torch.get_num_threads()`` says, the calling one included. All run the same
function, which takes the number of its next piece of work with `next_number` when it is done with
its last: a thread whose core is busy with something else holds up no other, and one that has not
begun when the caller runs out of work is called off. What a piece is must not depend on the
threads, so that no digit of the result does.
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


def share(work: Callable[[NDArray], None], n_pieces: int, n_scalars: int, dtype: np.dtype) -> None:
    """Call ``work`` on threads, at most one a piece, with ``n_scalars`` of their own memory each.

    The memory is aligned, and its contents are of no value. ``work`` should release the GIL.
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
    """``counters[at]``, which counts up by one; no two threads get the same."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), one, "seq_cst")

    return types.int64(counters, types.int64), codegen


@lru_cache(maxsize=8)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Idle threads, of this process: a fork's child has none of its parent's."""
    return ThreadPoolExecutor(n_threads, "quantum-hybrid")


def _memory(n_scalars: int, dtype: np.dtype) -> NDArray:
    """Kept by the thread between calls."""
    n_bytes = n_scalars * dtype.itemsize
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = np.empty(n_bytes + ALIGNMENT_BYTES, np.uint8)
        memory = _local.memory = memory[-memory.ctypes.data % ALIGNMENT_BYTES :]
    return memory[:n_bytes].view(dtype)
