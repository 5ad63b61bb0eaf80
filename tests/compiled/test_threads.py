"""Work is shared out among threads that really run side by side, also after a fork."""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from numba import njit

from quantum_hybrid.compiled.threads import ALIGNMENT_BYTES, next_number, run_on_threads

FLOAT32 = np.dtype(np.float32)


def meet(n_threads=2) -> set[str]:
    """Names of threads that wait for each other at work."""
    barrier, names = threading.Barrier(n_threads, timeout=900), set()

    def work(memory):
        barrier.wait()
        names.add(threading.current_thread().name)

    run_on_threads(work, n_threads, 1, FLOAT32)
    return names


@njit(nogil=True)
def count(counters, taken):
    """Take numbers until all are taken, and say how often each was."""
    number = next_number(counters, 1)
    while number < len(taken):
        taken[number] += 1
        number = next_number(counters, 1)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_a_piece_is_done_by_one_thread_in_memory_that_is_aligned():
    counters, taken = np.zeros(2, np.int64), np.zeros(10**6, np.int64)
    barrier = threading.Barrier(2, timeout=900)

    def work(memory):
        assert memory.ctypes.data % ALIGNMENT_BYTES == 0
        assert memory.shape == (100,)
        barrier.wait()
        count(counters, taken)

    run_on_threads(work, 50, 100, FLOAT32)
    assert (taken == 1).all()
    assert counters.tolist() == [0, 10**6 + 2]


@pytest.mark.parametrize("n_threads", [1, 3, 9])
def test_as_many_threads_as_torch_says_however_many_cores_there_are(monkeypatch, n_threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    assert len(meet(n_threads)) == n_threads


def test_no_more_threads_than_pieces():
    callers = []
    run_on_threads(lambda memory: callers.append(threading.current_thread()), 1, 1, FLOAT32)
    assert callers == [threading.current_thread()]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    assert len(meet()) == 2
    child = multiprocessing.get_context("fork").Process(target=meet)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_an_error_is_raised():
    def work(memory):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_on_threads(work, 4, 1, FLOAT32)
