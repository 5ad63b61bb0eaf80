"""The tasks of a study: each computes one file from files, in a process of its own.

    tune REGIME         the trials of all arms
    fit REGIME SEED     all arms of a seed, trained in one pass; in the regime joint one arm
    judge REGIME SEED   their held-out losses; only when all fits are done

A task uses one thread, so its bits do not depend on what runs beside it. A task whose file is there
is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.study.fits.fit import Settings
from quantum_hybrid.study.fits.joint import JointFit
from quantum_hybrid.study.fits.regime import RegimeFits
from quantum_hybrid.study.fits.tuning import Tuning
from quantum_hybrid.study.folder import StudyFolder
from quantum_hybrid.study.ground.corpus import Corpus
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.study.regimes import REGIMES, Regime

Kind = Literal["tune", "fit", "judge"]


@dataclass(frozen=True)
class Task:
    """One task."""

    kind: Kind
    regime: Regime
    seed: int | None = None
    arm: str | None = None
    """Of a fit in the regime joint, which trains one arm at a time."""

    @property
    def _is_joint(self) -> bool:
        return REGIMES[self.regime].is_joint

    def __str__(self) -> str:
        """In words, for progress."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.kind} {self.regime}{seed}" + ("" if self.arm is None else f", {self.arm}")

    def is_done(self, study: StudyFolder) -> bool:
        """Whether its files are there."""
        if self.kind == "tune":
            return Tuning.read(study.plan, self.regime, study.tuning(self.regime)).is_done
        return all(file.exists() for file in self.writes(study))

    def reads(self, study: StudyFolder) -> list[Path]:
        """The files that it needs, those of the ground apart."""
        if self.seed is None:
            return []
        if self._is_joint:
            arms = study.plan.arms if self.kind == "judge" else ()
            return [study.text, *(study.fit("joint", self.seed, arm) for arm in arms)]
        tuned = [study.tuning(self.regime)]
        return tuned if self.kind == "fit" else [*tuned, study.fit(self.regime, self.seed)]

    def writes(self, study: StudyFolder) -> list[Path]:
        """The files that it computes."""
        if self.seed is None:
            return [study.tuning(self.regime)]
        if self.kind == "fit":
            return [study.fit(self.regime, self.seed, self.arm)]
        return [study.losses(self.regime, self.seed)]

    def run(self, study: StudyFolder) -> None:
        """Compute the file."""
        fits = RegimeFits(study.plan, self.regime, HiddenStates(study.ground_of(self.regime)))
        if self._is_joint and self.seed is not None:
            _run_joint(study, self.seed, self.arm, fits)
        elif self.seed is None:
            _tune(study, self.regime, fits)
        elif self.kind == "fit":
            _fit(study, self.regime, self.seed, fits)
        else:
            _judge(study, self.regime, self.seed, fits)


def tasks_of(plan: StudyPlan) -> list[Task]:
    """All tasks, the longest of each kind first."""
    regimes = sorted(plan.regimes, key=lambda regime: not REGIMES[regime].is_beside)
    tasks = [Task("tune", regime) for regime in regimes if not REGIMES[regime].is_joint]
    for regime in regimes:
        arms = plan.arms if REGIMES[regime].is_joint else (None,)
        tasks += [Task("fit", regime, seed, arm) for seed in plan.all_seeds for arm in arms]
    return tasks + [Task("judge", regime, seed) for regime in regimes for seed in plan.all_seeds]


def _tune(study: StudyFolder, regime: Regime, fits: RegimeFits) -> None:
    tuning = Tuning.read(study.plan, regime, study.tuning(regime))
    while not tuning.is_done:
        tuning.round(fits)
        tuning.write(study.tuning(regime))


def _fit(study: StudyFolder, regime: Regime, seed: int, fits: RegimeFits) -> None:
    fits.trained(_tuned(study, regime), seed).write(study.fit(regime, seed))


def _judge(study: StudyFolder, regime: Regime, seed: int, fits: RegimeFits) -> None:
    # Read from the file, also right after the fit: the losses are those of what is kept.
    trained = fits.untrained(_tuned(study, regime), seed).read(study.fit(regime, seed))
    _write_losses(study, regime, seed, trained.prompt_losses(fits.rows("held-out")).numpy())


def _run_joint(study: StudyFolder, seed: int, arm: str | None, fits: RegimeFits) -> None:
    """Fit one arm, or judge all."""
    corpus = Corpus.read(study.text)
    if arm is not None:
        fit = JointFit(study.plan, arm, seed, corpus)
        fit.train(fits)
        fit.write(study.fit("joint", seed, arm))
        return
    found = []
    for one in study.plan.arms:
        fit = JointFit(study.plan, one, seed, corpus)
        fit.read(study.fit("joint", seed, one))
        found.append(fit.prompt_losses().numpy())
    _write_losses(study, "joint", seed, np.stack(found))


def _write_losses(study: StudyFolder, regime: Regime, seed: int, sums: np.ndarray) -> None:
    content = BytesIO()
    np.save(content, sums)
    write_bytes(study.losses(regime, seed), content.getvalue())


def _tuned(study: StudyFolder, regime: Regime) -> list[tuple[str, Settings]]:
    tuning = Tuning.read(study.plan, regime, study.tuning(regime))
    return [(arm, tuning.best(arm).settings) for arm in study.plan.arms_of(regime)]
