"""The tuning of each arm: three rates and the spread of its angles, judged on validation units.

A compass search (Hooke and Jeeves 1961; Kolda, Lewis and Torczon 2003) in logarithms: each round
multiplies and divides two settings of the best trial so far by a step, which shrinks from one turn
of these settings to the next. It draws no random numbers: with few trials a random search favours
some arms by luck, and no interval over seeds covers that (docs/log.md#rates). All arms are trained
in one pass, as the fits are, and have the same number of trials; those of the first round are
`FIRST` for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.study.fits.fit import Settings
from quantum_hybrid.study.fits.regime import RegimeFits
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.study.regimes import Regime

WIDE = 0.1
"""Spread from which on a circuit is not nearly linear (docs/log.md#referee)."""
FIRST = (
    Settings(up_rate=0.08, down_rate=0.05, map_rate=0.03, spread=WIDE),
    Settings(up_rate=0.08, down_rate=0.05, map_rate=0.001, spread=0.001),
    Settings(up_rate=0.02, down_rate=0.015, map_rate=0.01, spread=0.01),
    Settings(up_rate=0.02, down_rate=0.005, map_rate=0.01, spread=WIDE),
)
"""Near what was good for some arm, on validation units (docs/log.md#referee). Two of them train
a circuit whose angles spread widely."""
ROUND = len(FIRST)
"""Trials of an arm in one pass."""
STEPS = ({"spread": 4.0, "map_rate": 4.0}, {"up_rate": 2.0, "down_rate": 3.0})
"""Pairs of settings that the rounds alternate between, with their first step. Each turn takes the
square root of the last step."""
SMALLEST_SPREAD = 3e-4
"""With a tenth of it the outputs of some circuits are, in some direction, below
`SMALLEST_VARIANCE`."""
SEED = 2**31
"""Added to the first seed for the fits in the tuning: no seed of a study is as large. A study with
other seeds is therefore tuned again."""


@dataclass(frozen=True)
class Trial:
    """Settings of an arm, and what they led to."""

    settings: Settings
    loss: float | None
    """On the validation units, in nats per token; None if the fit diverged."""


class Tuning:
    """The trials of all arms in one regime so far."""

    def __init__(
        self,
        plan: StudyPlan,
        regime: Regime,
        trials: Mapping[str, list[Trial]] | None = None,
    ) -> None:
        self._plan = plan
        self.trials = {arm: list((trials or {}).get(arm, ())) for arm in plan.arms_of(regime)}

    @property
    def n_done(self) -> int:
        """Trials of each arm."""
        return len(next(iter(self.trials.values())))

    @property
    def is_done(self) -> bool:
        """Whether every arm has its trials."""
        return self.n_done >= self._plan.tuning_trials

    def round(self, fits: RegimeFits) -> None:
        """Add the next trials of every arm."""
        n = min(ROUND, self._plan.tuning_trials - self.n_done)
        asked = [(arm, own) for arm in self.trials for own in proposed(self.trials[arm])[:n]]
        seed = SEED + self._plan.first_seed
        trained = fits.trained(asked, seed)
        losses = trained.mean_losses(fits.rows("validation"))
        for (arm, settings), loss in zip(asked, losses.tolist(), strict=True):
            self.trials[arm].append(Trial(settings, loss if math.isfinite(loss) else None))

    def best(self, arm: str) -> Trial:
        """The trial of an arm with the lowest loss; its first one if all diverged."""
        return best_of(self.trials[arm])

    def write(self, file: Path) -> None:
        """Write all trials, atomically."""
        write_json(file, {arm: [asdict(one) for one in own] for arm, own in self.trials.items()})

    @classmethod
    def read(cls, plan: StudyPlan, regime: Regime, file: Path) -> Tuning:
        """What `write` has written; empty without a file. Raises `CheckpointError`."""
        try:
            if not file.exists():
                return cls(plan, regime)
            content = json.loads(file.read_text(encoding="utf-8"))
            trials = {
                arm: [Trial(Settings(**one["settings"]), one["loss"]) for one in own]
                for arm, own in content.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: not the tuning of a study") from error
        return cls(plan, regime, trials)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the lowest loss; the first one if all diverged."""
    return min(trials, key=lambda one: math.inf if one.loss is None else one.loss)


def proposed(trials: Sequence[Trial]) -> list[Settings]:
    """The settings of the round after these trials of an arm."""
    if not trials:
        return list(FIRST)
    best = best_of(trials).settings
    turn, which = divmod(len(trials) // ROUND - 1, len(STEPS))
    found = []
    for name, first in STEPS[which].items():
        step, value = first ** (0.5**turn), getattr(best, name)
        least = SMALLEST_SPREAD if name == "spread" else 0.0
        found += [replace(best, **{name: new}) for new in (value * step, max(value / step, least))]
    return found
