"""Chunks of work are done once each, by threads that really run side by side, also after a fork."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch

from quantum_hybrid.circuit.threads import ALIGNMENT_BYTES, run_chunks

FLOAT32 = np.dtype(np.float32)


def meet() -> set[str]:
    """Names of two threads that take a chunk each and wait for each other within it."""
    barrier, names = threading.Barrier(2, timeout=30), set()

    def work(chunk, memory):
        barrier.wait()
        names.add(threading.current_thread().name)

    run_chunks(work, 2, 1, FLOAT32)
    return names


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_every_chunk_is_done_once_in_memory_that_is_aligned():
    done = []

    def work(chunk, memory):
        assert memory.ctypes.data % ALIGNMENT_BYTES == 0
        assert memory.shape == (100,)
        done.append(chunk)

    run_chunks(work, 50, 100, FLOAT32)
    assert sorted(done) == list(range(50))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    assert len(meet()) == 2
    child = multiprocessing.get_context("fork").Process(target=meet)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_an_error_in_a_chunk_is_raised():
    def work(chunk, memory):
        raise ZeroDivisionError(chunk)

    with pytest.raises(ZeroDivisionError):
        run_chunks(work, 4, 1, FLOAT32)
