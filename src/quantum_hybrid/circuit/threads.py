"""Work in numbered chunks, dealt out to threads.

As many threads as ``torch.get_num_threads()`` says, the calling one included. Each takes the next
chunk when it is done with its last, so one whose core is busy with something else holds up no
other; and what has not begun when the caller runs out of chunks is called off. What a chunk is
must not depend on the threads, so that no digit of the result does.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

ALIGNMENT_BYTES = 64

_local = threading.local()


def run_chunks(
    work: Callable[[int, NDArray], None], n_chunks: int, n_scalars: int, dtype: np.dtype
) -> None:
    """Call ``work`` for every chunk, with ``n_scalars`` of its thread's own memory.

    The memory is aligned, and its contents are of no value. ``work`` should release the GIL.
    """
    helpers = min(torch.get_num_threads(), n_chunks) - 1
    chunks = iter(range(n_chunks))

    def take() -> None:
        memory = _memory(n_scalars, dtype)
        for chunk in chunks:  # taking the next one is atomic
            work(chunk, memory)

    futures = [_pool(os.getpid()).submit(take) for _ in range(helpers)]
    take()
    for future in futures:
        if not future.cancel():
            future.result()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Idle threads, of this process: a fork's child has none of its parent's."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "quantum-hybrid")


def _memory(n_scalars: int, dtype: np.dtype) -> NDArray:
    """Kept by the thread between calls."""
    n_bytes = n_scalars * dtype.itemsize
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = np.empty(n_bytes + ALIGNMENT_BYTES, np.uint8)
        memory = _local.memory = memory[-memory.ctypes.data % ALIGNMENT_BYTES :]
    return memory[:n_bytes].view(dtype)
