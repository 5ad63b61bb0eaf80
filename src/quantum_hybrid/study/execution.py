"""Tasks of a study in the order of what they need, on the cores of this machine.

A fit needs its regime's tuning, and the held-out part is opened when all fits are done. Here each
task runs in a process; `cluster` offers the same on a Ray cluster. A worker that dies, for instance
because memory is short, ends the execution with `ProcessLost`; what is done is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for_handles
from multiprocessing.context import BaseContext
from typing import TypeVar

import torch

from quantum_hybrid.errors import ProcessLost
from quantum_hybrid.processes.cores import usable_cores
from quantum_hybrid.study.folder import StudyFolder
from quantum_hybrid.study.tasks import Kind, Task, tasks_of

Done = Callable[[Task, float], None]
"""Called with a task that is done and the seconds that it took."""
StudyDone = Callable[[StudyFolder], None]
"""Called with a study whose tasks are done."""
T = TypeVar("T")


def execute(study: StudyFolder, tasks: Sequence[Task], done: Done) -> None:
    """Run the tasks, each in a process.

    Raises what a task raises, `ProcessLost` if a worker was killed, and whatever a signal handler
    raises; the workers are then killed.
    """
    with _workers(min(usable_cores(), len(tasks))) as executor:
        try:
            in_order(tasks, lambda task: executor.submit(_run, study, task), done)
        except BrokenProcessPool as error:
            raise _lost(study) from error


def execute_apart(studies: Sequence[StudyFolder], kinds: Sequence[Kind], done: StudyDone) -> None:
    """The tasks of these kinds of several studies, those of each one after the other.

    Raises as `execute` does.
    """
    if not studies:
        return
    with _workers(min(usable_cores(), len(studies))) as executor:
        futures = {executor.submit(_run_all, study, kinds): study for study in studies}
        try:
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool as error:
            raise _lost(studies[0]) from error


def in_order(
    tasks: Sequence[Task], submit: Callable[[Task], Future[T]], done: Callable[[Task, T], None]
) -> None:
    """Submit each task when no task that it needs is left, and tell of its result."""
    waiting = list(tasks)
    running: dict[Future[T], Task] = {}
    while waiting or running:
        for task in [task for task in waiting if _may_start(task, [*waiting, *running.values()])]:
            waiting.remove(task)
            running[submit(task)] = task
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            done(running.pop(future), future.result())


def _may_start(task: Task, undone: Iterable[Task]) -> bool:
    if task.kind == "fit":
        return not any(one.kind == "tune" and one.regime == task.regime for one in undone)
    return task.kind == "tune" or all(one.kind == "judge" for one in undone)


@contextmanager
def _workers(n: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, also with one that fails, and with this process."""
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(n, mp_context=_forked(), initializer=_begin)
    try:
        yield executor
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _forked() -> BaseContext:
    """Workers are forked from a server that imports once what a task needs.

    Server and workers inherit a mask that blocks Ctrl-C, which this process handles.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


def _begin() -> None:
    """Set up a worker: one thread, and it ends with this process."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_handles([parent.sentinel])
        os._exit(1)


def _lost(study: StudyFolder) -> ProcessLost:
    return ProcessLost(
        f"{study.path}: a worker was killed, perhaps because memory is short; what is done is kept"
    )


def _run_all(study: StudyFolder, kinds: Sequence[Kind]) -> None:
    for task in tasks_of(study.plan):
        if task.kind in kinds and not task.is_done(study):
            task.run(study)


def _run(study: StudyFolder, task: Task) -> float:
    started = time.thread_time()
    task.run(study)
    return time.thread_time() - started
