"""The tuning of each arm: three rates and the encoding scale, judged on validation units only.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes `ROUND` trials of every
arm at a time; all of them are trained in one pass, as the fits are, and judged on the validation
units. Every arm gets the same number of trials. Those of the first round are `FIRST` for all arms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.study.fit import Settings
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.study.regime import RegimeFits
from quantum_hybrid.study.start import Recalibrated

ROUND = 4
"""Trials of an arm in one pass. More at a time cost less each, and learn less from earlier ones."""
FIRST = (
    Settings(up_rate=0.02, down_rate=0.15, map_rate=0.1, spread=0.1),
    Settings(up_rate=0.02, down_rate=0.15, map_rate=0.003, spread=0.001),
    Settings(up_rate=0.001, down_rate=0.1, map_rate=0.003, spread=0.005),
    Settings(up_rate=0.02, down_rate=0.15, map_rate=0.01, spread=0.02),
)
"""Near what was good for some arm, on the validation units of another text (docs/log.md#rates)."""
SPACE: dict[str, BaseDistribution] = {
    "up_rate": FloatDistribution(1e-5, 0.3, log=True),
    "down_rate": FloatDistribution(1e-3, 1.0, log=True),
    "map_rate": FloatDistribution(1e-4, 1.0, log=True),
    "spread": FloatDistribution(3e-4, 1.0, log=True),
}
"""With a smaller spread the outputs of some circuits are, in some direction, below
`SMALLEST_VARIANCE`."""
SEED = 2**31
"""Added to the first seed for the fits in the tuning: no seed of a study is as large. A study with
other seeds is so tuned anew."""


@dataclass(frozen=True)
class Trial:
    """Settings of an arm, and what they led to."""

    settings: Settings
    loss: float | None
    """On the validation units, in nats per token; None if the fit diverged."""


class Tuning:
    """The trials of all arms in one regime so far."""

    def __init__(self, plan: StudyPlan, trials: Mapping[str, list[Trial]] | None = None) -> None:
        self._plan = plan
        self.trials = {arm: list((trials or {}).get(arm, ())) for arm in plan.arms}
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    @property
    def n_done(self) -> int:
        """Trials of each arm."""
        return len(next(iter(self.trials.values())))

    @property
    def is_done(self) -> bool:
        """Whether every arm has its trials."""
        return self.n_done >= self._plan.tuning_trials

    def round(self, fits: RegimeFits, recalibrated: Recalibrated | None) -> None:
        """Add the next trials of every arm."""
        n = min(ROUND, self._plan.tuning_trials - self.n_done)
        asked = [(arm, own) for arm in self.trials for own in self._proposed(arm, n)]
        seed = SEED + self._plan.first_seed
        trained = fits.trained(asked, recalibrated, seed)
        losses = trained.mean_losses(fits.rows("validation"))
        for (arm, settings), loss in zip(asked, losses.tolist(), strict=True):
            self.trials[arm].append(Trial(settings, loss if math.isfinite(loss) else None))

    def best(self, arm: str) -> Trial:
        """The trial of an arm with the lowest loss; its first one if all diverged."""
        return min(self.trials[arm], key=lambda one: math.inf if one.loss is None else one.loss)

    def write(self, file: Path) -> None:
        """Write all trials, atomically."""
        write_json(file, {arm: [asdict(one) for one in own] for arm, own in self.trials.items()})

    @classmethod
    def read(cls, plan: StudyPlan, file: Path) -> Tuning:
        """What `write` has written; empty without a file. Raises `CheckpointError`."""
        try:
            if not file.exists():
                return cls(plan)
            content = json.loads(file.read_text(encoding="utf-8"))
            trials = {
                arm: [Trial(Settings(**one["settings"]), one["loss"]) for one in own]
                for arm, own in content.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: not the tuning of a study") from error
        return cls(plan, trials)

    def _proposed(self, arm: str, n: int) -> list[Settings]:
        """What to try next, a function of the plan and the arm's trials so far."""
        earlier = self.trials[arm]
        if not earlier:
            return list(FIRST[:n])
        sampler = optuna.samplers.TPESampler(
            seed=self._plan.first_seed + len(earlier), n_startup_trials=ROUND
        )
        study = optuna.create_study(sampler=sampler)
        for trial in earlier:
            study.add_trial(_as_optunas(trial))
        return [Settings(**study.ask(SPACE).params) for _ in range(n)]


def _as_optunas(trial: Trial) -> optuna.trial.FrozenTrial:
    failed = trial.loss is None
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        params=asdict(trial.settings),
        distributions=SPACE,
        value=None if failed else trial.loss,
    )
