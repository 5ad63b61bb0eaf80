"""A study in this process, and the hashes of what it computes; a helper of the study's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from quantum_hybrid.report.study_results import StudyResults
from quantum_hybrid.study.conduct import Conductor
from quantum_hybrid.study.execution import Done, in_order
from quantum_hybrid.study.folder import StudyFolder, opened
from quantum_hybrid.study.plan import DEFAULT_PLAN, StudyPlan
from quantum_hybrid.study.tasks import Task

FIGURES = ("fits", "losses", "tuning", "ground", "text.json", "healed.safetensors")
"""What a study computes, as far as it may not depend on when and how."""


def conducted(path: Path, plan: StudyPlan | None) -> StudyResults:
    """All stages of a study, in this process."""
    with opened(path, plan, DEFAULT_PLAN) as study:
        conductor = Conductor(study, lambda line: None, one_after_the_other)
        conductor.prepare()
        conductor.tune_and_fit()
        conductor.judge()
        return conductor.report()


def hashes(study: Path) -> dict[str, str]:
    """SHA-256 of each file that the study has computed."""
    files = [file for name in FIGURES for file in [study / name, *(study / name).rglob("*")]]
    return {
        str(file.relative_to(study)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def one_after_the_other(study: StudyFolder, tasks: Sequence[Task], done: Done) -> None:
    """An executor in this process."""

    def submit(task: Task) -> Future[float]:
        future: Future[float] = Future()
        task.run(study)
        future.set_result(0.0)
        return future

    in_order(tasks, submit, done)
