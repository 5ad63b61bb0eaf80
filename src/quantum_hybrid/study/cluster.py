"""Tasks of a study on a Ray cluster: the same files as on this machine.

A worker gets the files that a task reads, runs the task in a folder of its own and sends back what
it wrote. So the machines share no file system, but this package must be installed on all of them.
Ray repeats a task whose worker has died. The bits are those of a local run if the processors have
the same vector instructions.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from quantum_hybrid.durable import whole_folder, write_bytes
from quantum_hybrid.errors import ProcessLost, UsageError
from quantum_hybrid.study.execution import Done, in_order
from quantum_hybrid.study.folder import StudyFolder
from quantum_hybrid.study.tasks import Task

MOST_RETRIES = 5
"""Of a task whose worker dies."""
ANSWERS_WITHIN_S = 5.0
"""Longest wait for the cluster's first answer."""

Files = Mapping[str, bytes]
"""Path within the study's folder -> content."""


class Cluster:
    """A Ray cluster that exists. Use it as a context; `execute` runs tasks there."""

    def __init__(self, address: str) -> None:
        """`auto`, or host:port of a cluster. Raises `UsageError` if there is none."""
        try:
            import ray
            import ray.exceptions
        except ImportError:
            raise UsageError("--ray: install the extra: quantum-hybrid-lm[ray]") from None
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"--ray {address!r}: no Ray cluster answers there: {reason}") from None
        self._ray, self._exceptions = ray, ray.exceptions

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def execute(self, study: StudyFolder, tasks: Sequence[Task], done: Done) -> None:
        """Run the tasks. Raises what a task raises, and `ProcessLost` if workers keep dying."""
        ray = self._ray
        shared = {
            task.regime: _Shared.put(study, study.ground_of(task.regime), ray) for task in tasks
        }
        remote = ray.remote(num_cpus=1, max_retries=MOST_RETRIES)(_work)

        def submit(task: Task) -> Any:
            files = _contents(study, task.reads(study))
            return remote.remote(study.plan, task, files, shared[task.regime]).future()

        def take(task: Task, result: tuple[Files, float]) -> None:
            files, seconds = result
            for name, content in files.items():
                write_bytes(study.path / name, content)
            done(task, seconds)

        try:
            in_order(tasks, submit, take)
        except self._exceptions.RayTaskError as error:
            raise error.cause from None
        except self._exceptions.RayError as error:
            raise ProcessLost(f"{study.path}: the Ray cluster: {error}") from error


def _require_answer(address: str) -> None:
    """Raise `OSError` if nothing listens there: Ray itself would end the program.

    `auto` names a cluster of this machine, which Ray looks for.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if address != "auto":
        socket.create_connection((place.hostname, place.port), ANSWERS_WITHIN_S).close()


@dataclass(frozen=True)
class _Shared:
    """The ground that tasks read, in the cluster's object store."""

    name: str
    """Path within the study's folder."""
    digest: str
    """SHA-256 of all files."""
    files: Mapping[str, Any]
    """Path within the ground -> reference of the content."""

    @classmethod
    def put(cls, study: StudyFolder, folder: Path, ray: Any) -> _Shared:
        digest, files = hashlib.sha256(), {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = str(file.relative_to(folder)), file.read_bytes()
            digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
            files[name] = ray.put(content)
        return cls(str(folder.relative_to(study.path)), digest.hexdigest(), files)

    def folder(self) -> Path:
        """A folder of this machine that holds the files; written once a machine."""
        import ray
        from filelock import FileLock

        folder = Path(tempfile.gettempdir()) / f"quantum-hybrid-{os.getuid()}" / self.digest
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        if folder.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder.parent}: belongs to another user")
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                with whole_folder(folder) as half_written:
                    for name, reference in self.files.items():
                        file = half_written / name
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(ray.get(reference))
        return folder


def _work(plan: Any, task: Task, files: Files, shared: _Shared) -> tuple[Files, float]:
    """Run a task in a folder of its own; the files that it wrote, and the seconds."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        study = StudyFolder(Path(folder), plan)
        for name, content in files.items():
            file = study.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for file in task.writes(study):
            file.parent.mkdir(parents=True, exist_ok=True)
        ground = study.path / shared.name
        ground.parent.mkdir(parents=True, exist_ok=True)
        ground.symlink_to(shared.folder(), target_is_directory=True)
        started = time.thread_time()
        task.run(study)
        return _contents(study, task.writes(study)), time.thread_time() - started


def _contents(study: StudyFolder, files: Sequence[Path]) -> Files:
    return {str(file.relative_to(study.path)): file.read_bytes() for file in files}
