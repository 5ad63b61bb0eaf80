"""The folder of a study: its files, and the lock that gives it to one process at a time.

plan.yaml                 the plan, complete
study.json                its hash, command, commit, versions and machine of the start
log.txt                   lines of the console, with times
text.json                 the units of all parts
healed.safetensors        what healing has trained
ground/                   hidden states of the frozen backbones, and with planted next tokens
tuning/REGIME.json        the trials of all arms
fits/REGIME-SEED.safetensors   all arms of a seed, trained; of the regime joint a file an arm
losses/REGIME-SEED.npy    held-out loss of each arm and unit, summed over tokens
looks.jsonl               when the held-out part was opened
programs.jsonl            the commits of the program that have computed something
times.jsonl               time that each stage took
scaling/, scaling.json    small studies of other shapes, and what they have found
results.json, *.csv       all results
study.html                the page

Every file appears whole, and what is there is not computed again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from quantum_hybrid.durable import NO_ROOM, write_bytes, write_json
from quantum_hybrid.errors import CheckpointError, UsageError, WriteError
from quantum_hybrid.run.provenance import git_commit, installed_versions
from quantum_hybrid.study.plan import StudyPlan, plan_of
from quantum_hybrid.study.regimes import REGIMES, GroundName, Regime

RESUMABLE = 3
"""Exit status of a study that has stopped and can go on."""
FOLDERS = ("ground", "tuning", "fits", "losses")
VERSIONS = ("quantum-hybrid-lm", "torch", "numba", "numpy", "scipy", "statsmodels")


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path
    plan: StudyPlan

    @property
    def text(self) -> Path:
        """The units of all parts."""
        return self.path / "text.json"

    @property
    def healed(self) -> Path:
        """What healing has trained."""
        return self.path / "healed.safetensors"

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "study.html"

    def ground(self, name: GroundName) -> Path:
        """Folder of hidden states."""
        return self.path / "ground" / name

    def ground_of(self, regime: Regime) -> Path:
        """Folder of the hidden states that a regime reads."""
        return self.ground(REGIMES[regime].ground)

    @property
    def scaling(self) -> Path:
        """What `quantum-hybrid scaling` has found."""
        return self.path / "scaling.json"

    def tuning(self, regime: Regime) -> Path:
        """Trials of all arms."""
        return self.path / "tuning" / f"{regime}.json"

    def fit(self, regime: Regime, seed: int, arm: str | None = None) -> Path:
        """All arms of a seed, trained; of the regime joint one arm."""
        name = f"{regime}-{seed}" if arm is None else f"{regime}-{seed}-{arm.replace(' ', '-')}"
        return self.path / "fits" / f"{name}.safetensors"

    def losses(self, regime: Regime, seed: int) -> Path:
        """Held-out losses of all arms of a seed."""
        return self.path / "losses" / f"{regime}-{seed}.npy"

    def started(self) -> dict[str, Any]:
        """The content of study.json."""
        return json.loads((self.path / "study.json").read_text(encoding="utf-8"))

    def times(self) -> dict[str, float]:
        """Stage -> seconds."""
        file, times = self.path / "times.jsonl", Counter[str]()
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                stage, seconds = json.loads(line)
                times[stage] += seconds
        return dict(times)

    def add_time(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage. Several processes may do so at once."""
        with (self.path / "times.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([stage, round(seconds, 3)]) + "\n")

    def programs(self) -> list[str | None]:
        """The commits of the program that have computed something, in order."""
        file = self.path / "programs.jsonl"
        if not file.exists():
            return []
        lines = file.read_text(encoding="utf-8").splitlines()
        return list(dict.fromkeys(json.loads(line) for line in lines))

    def add_program(self) -> None:
        """Record that this program computes something. Several processes may do so at once."""
        with (self.path / "programs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(git_commit() or version("quantum-hybrid-lm")) + "\n")

    def log(self, line: str) -> None:
        """Append a line to log.txt."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")


@contextmanager
def opened(
    path: Path, plan: StudyPlan | None, default: StudyPlan, *, waits: bool = False
) -> Iterator[StudyFolder]:
    """Begin a study in a new folder, or go on with the one that is there; hold its lock.

    `plan` is the one that the user named. `waits` for a process that holds the lock.

    Raises `UsageError` if the folder holds something else, belongs to a study with another plan,
    cannot be written, or is in use; `CheckpointError` if its plan was changed; `WriteError` if the
    disk is full.
    """
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path / ".lock", timeout=-1 if waits else 0):
            if _holds_a_study(path):
                yield resumed(path, plan)
            else:
                study = begun(path, plan or default)
                with _removed_if_refused(study, made):
                    yield study
    except Timeout as error:
        raise UsageError(f"{path}: another process is at work on this study") from error
    except OSError as error:
        _say_if_not_written(path, error)
        raise


@contextmanager
def _removed_if_refused(study: StudyFolder, made: Sequence[Path]) -> Iterator[None]:
    """Remove a new study, and the folders made for it, at a `UsageError` before it has a ground.

    Its plan cannot be changed, so it could never go on. A teacher's answers stay in the cache.
    """
    try:
        yield
    except UsageError:
        if not any((study.path / "ground").iterdir()):
            with suppress(OSError):  # Another process may have put something there.
                for entry in study.path.iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                for folder in made:
                    folder.rmdir()
        raise


@contextmanager
def shard_of(study: StudyFolder, name: str) -> Iterator[None]:
    """Hold the lock of a share of a study. Raises as `opened` does."""
    try:
        with FileLock(study.path / f".{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(f"{study.path}: another process is at work on {name}") from error
    except OSError as error:
        _say_if_not_written(study.path, error)
        raise


def _say_if_not_written(path: Path, error: OSError) -> None:
    """Raise the one-line error for a failure to write the study's files; return for another one."""
    if error.errno in NO_ROOM:
        full = WriteError(
            f"{path}: cannot be written: {error.strerror}; files written before are intact: free "
            "some space and go on",
            resumable_run=path,
        )
        full.exit_status = RESUMABLE
        raise full from error
    named = error.filename and Path(error.filename).absolute()
    if named and named.is_relative_to(path.absolute()):
        raise UsageError(f"{named}: cannot be written: {error.strerror}") from error


def _holds_a_study(path: Path) -> bool:
    if (path / "study.json").is_file():
        return True
    others = sorted(set(os.listdir(path)) - _OF_A_NEW_STUDY)
    if others:
        raise UsageError(f"{path}: holds other files and no study; name a new folder")
    return False


_OF_A_NEW_STUDY = {".lock", "plan.yaml", ".plan.yaml.tmp", ".study.json.tmp", *FOLDERS}


def begun(path: Path, plan: StudyPlan, *, ground: Path | None = None) -> StudyFolder:
    """The study of this plan in a folder; it is begun if it was not. `ground` is shared.

    Raises as `opened` does.
    """
    path.mkdir(parents=True, exist_ok=True)
    if (path / "study.json").is_file():
        return resumed(path, plan)
    text = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_bytes(path / "plan.yaml", text.encode("utf-8"))
    if ground is not None and not (path / "ground").is_symlink():
        (path / "ground").symlink_to(os.path.relpath(ground, path), target_is_directory=True)
    for folder in FOLDERS:
        (path / folder).mkdir(exist_ok=True)
    content = {
        "plan_sha256": plan.digest,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "machine": {"system": platform.platform(), "cpu_count": os.cpu_count()},
        "versions": installed_versions(VERSIONS),
    }
    write_json(path / "study.json", content)  # Last: it makes this a study.
    return StudyFolder(path, plan)


def resumed(path: Path, plan: StudyPlan | None) -> StudyFolder:
    """The study in a folder. Raises `UsageError` if `plan` is given and is not its own."""
    file = path / "plan.yaml"
    try:
        fields = yaml.safe_load(file.read_text(encoding="utf-8"))
        begun = json.loads((path / "study.json").read_text(encoding="utf-8"))["plan_sha256"]
        kept = plan_of(fields, str(file))
    except UsageError as error:
        raise CheckpointError(str(error)) from error
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a study: {error}") from error
    if kept.digest != begun:
        raise CheckpointError(
            f"{file}: was changed after the study began with the plan {begun[:12]}; begin another "
            "study with the new plan"
        )
    if plan is not None and plan.digest != begun:
        raise UsageError(
            f"{path}: is a study with the plan {begun[:12]}, not {plan.digest[:12]}; leave the "
            "plan out to go on with it, or name a new folder"
        )
    return StudyFolder(path, kept)
