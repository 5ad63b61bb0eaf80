"""Runs a study's tasks in this process; a helper of the study's tests."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from quantum_hybrid.study.execution import Done, in_order
from quantum_hybrid.study.folder import StudyFolder
from quantum_hybrid.study.tasks import Task


def one_after_the_other(study: StudyFolder, tasks: Sequence[Task], done: Done) -> None:
    """An executor in this process."""

    def submit(task: Task) -> Future[float]:
        future: Future[float] = Future()
        task.run(study)
        future.set_result(0.0)
        return future

    in_order(tasks, submit, done)
