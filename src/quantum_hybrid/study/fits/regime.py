"""What all fits of one regime share, and the fits: many arms on the same rows in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.study.arms import NOTHING, WRITER, arm_named
from quantum_hybrid.study.fits.fit import Contender, Fit, Rows, Settings, Start, batches
from quantum_hybrid.study.fits.readouts import Readouts
from quantum_hybrid.study.fits.sampling import half_sample
from quantum_hybrid.study.fits.start import Calibration, Recalibrated
from quantum_hybrid.study.fits.use import Use
from quantum_hybrid.study.ground.corpus import Part
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.parameters import read_parameters, write_parameters
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.study.regimes import REGIMES, Regime

CALIBRATION_ROWS = 2_048
"""Training rows from which all arms start."""
SETTLING_ROWS = 2_048
"""Training rows that fix the mean of z at the end; on them it is measured how far the arms are from
linear ones, too."""
RECALIBRATION = Settings(up_rate=0.05, down_rate=0.1, map_rate=0.1, spread=0.1)


@dataclass(frozen=True)
class Halves:
    """The training rows of a seed."""

    own: Int[Tensor, " rows"]
    """Numbers of those on which its arms are trained: the rows of half of the units."""
    other: Int[Tensor, " rows"]
    """Those that recalibrate the classical logits, or give the frequencies of words, with which its
    arms start. On the same rows the arms would find less to gain than there is on other texts."""


class RegimeFits:
    """Fits of arms in a regime of a study."""

    def __init__(self, plan: StudyPlan, regime: Regime, states: HiddenStates) -> None:
        self._plan, self._states = plan, states
        self.is_beside = REGIMES[regime].is_beside
        self._decoder, self._bias = states.decoder(), states.bias()
        self._training = self.rows("training")
        # A plan may use fewer units than its ground holds; an index would copy them all.
        if plan.training <= int(self._training.prompts[-1]):
            self._training = self._training[self._training.prompts < plan.training]

    def rows(self, part: Part) -> Rows:
        """The rows of a part."""
        return self._states.rows(part, with_features=self.is_beside)

    def halves(self, seed: int) -> Halves:
        """The training rows of a seed."""
        units = self._training.prompts
        chosen = half_sample(int(units.max()) + 1, drawn_from(seed, "sample"))
        is_own = torch.isin(units, chosen)
        return Halves(is_own.nonzero()[:, 0], (~is_own).nonzero()[:, 0])

    def trained(self, arms: Sequence[tuple[str, Settings]], seed: int) -> Trained:
        """Train arms side by side. The seed draws initial values, order, and which half of the
        training units they are trained on.
        """
        halves = self.halves(seed)
        contenders, readouts = self._begun(arms, seed, halves)
        first = [deepcopy(one.map.state_dict()) for one in contenders]
        order = batches(len(halves.own), self._plan.epochs, drawn_from(seed, "order"))
        fit = self._fit(contenders, readouts, n_steps=len(order))
        curve = [fit.step(self._training[halves.own[numbers]]) for numbers in order]
        g = self._training.g[halves.own[:SETTLING_ROWS]]
        fit.settle(g)
        return Trained(fit, torch.stack(curve, 1), Use.of(contenders, first, g))

    def untrained(self, arms: Sequence[tuple[str, Settings]], seed: int) -> Trained:
        """The same arms without training, for `Trained.read`."""
        d_model, shape = self._decoder.shape[1], self._plan.shape
        contenders = [
            Contender.blank(arm_named(name), own, shape, d_model, seed) for name, own in arms
        ]
        readouts = Readouts(len(contenders), len(self._decoder), self._plan.n_qubits)
        fit = self._fit(contenders, readouts, n_steps=0)
        return Trained(fit, torch.zeros(len(arms), 0), Use.unknown(len(arms)))

    def alone(self, arm: str, settings: Settings, seed: int) -> tuple[Contender, Readouts]:
        """One arm at the start that it has without classical logits."""
        contender = self._contender(arm, settings, seed)
        targets = self._training.targets[self.halves(seed).other]
        return contender, self._calibration.readouts([contender], None, targets)

    @cached_property
    def calibration_rows(self) -> Rows:
        """Training rows from which all arms of all seeds start; their targets are not used."""
        generator = drawn_from(self._plan.text_seed, "calibration")
        order = torch.randperm(len(self._training), generator=generator)[:CALIBRATION_ROWS]
        return self._states.rows("training", with_features=True)[order.sort().values]

    @cached_property
    def start(self) -> Start:
        """The start of every arm's `down`."""
        return self._calibration.start(self._plan.n_qubits)

    def _begun(
        self, arms: Sequence[tuple[str, Settings]], seed: int, halves: Halves
    ) -> tuple[list[Contender], Readouts]:
        contenders = [
            self.writer(own) if name == WRITER else self._contender(name, own, seed)
            for name, own in arms
        ]
        recalibrated = self._recalibrated(seed, halves) if self.is_beside else None
        targets = self._training.targets[halves.other]
        return contenders, self._calibration.readouts(contenders, recalibrated, targets)

    @cached_property
    def _calibration(self) -> Calibration:
        rows = self.calibration_rows
        if rows.features is None:
            raise ValueError("a ground always has features")
        return Calibration(rows.g, rows.features, self._decoder, self._bias)

    def _recalibrated(self, seed: int, halves: Halves) -> Recalibrated:
        """Train the scale and the bias of each word that recalibrate the classical logits."""
        nothing = self._contender(NOTHING, RECALIBRATION, seed)
        words = len(self._decoder)
        untouched = Recalibrated(torch.zeros(words), torch.zeros(()))
        readouts = self._calibration.readouts([nothing], untouched)
        order = batches(len(halves.other), 1, drawn_from(seed, "recalibration"))
        fit = self._fit([nothing], readouts, n_steps=len(order))
        for numbers in order:
            fit.step(self._training[halves.other[numbers]])
        return Recalibrated(readouts.biases[0].detach(), readouts.log_scales[0].detach())

    def writer(self, settings: Settings) -> Contender:
        """The circuits that write the planted text: they have the same angles for all seeds."""
        generator = drawn_from(self._plan.text_seed, "planted angles")
        return self._contender(WRITER, settings, int(torch.randint(2**31, (), generator=generator)))

    def _contender(self, arm: str, settings: Settings, seed: int) -> Contender:
        return Contender(arm_named(arm), settings, self.start, self._plan.shape, seed)

    def _fit(self, contenders: Sequence[Contender], readouts: Readouts, *, n_steps: int) -> Fit:
        return Fit(contenders, readouts, self._decoder, self._bias, n_steps=n_steps)


@dataclass(frozen=True)
class Trained:
    """Arms after their training."""

    fit: Fit
    curve: Float[Tensor, "arms steps"]
    """Mean loss of each arm before each step, in nats."""
    use: Use
    """How each arm's map is used at the end."""

    def mean_losses(self, rows: Rows) -> Float[Tensor, " arms"]:
        """In nats per token; not finite for an arm that diverged."""
        return self.prompt_losses(rows).sum(1) / len(rows)

    def prompt_losses(self, rows: Rows) -> Float[Tensor, "arms prompts"]:
        """Loss of each prompt, summed over its rows; not finite for an arm that diverged."""
        return self.fit.prompt_losses(rows, int(rows.prompts.max()) + 1)

    def write(self, file: Path) -> None:
        """Write all parameters, the curve and the use, atomically."""
        write_parameters(file, self._state() | {"curve": self.curve} | self.use._asdict())

    def read(self, file: Path) -> Trained:
        """Load the parameters that `write` has written; with them, their curve and use.

        Raises `CheckpointError` for other content."""
        kept = read_parameters(file, self._state(), "a fit of this study")
        if missing := [name for name in ("curve", *Use._fields) if name not in kept]:
            raise CheckpointError(f"{file}: not a fit of this version: {missing[0]} is missing")
        return Trained(self.fit, kept["curve"], Use(*(kept[name] for name in Use._fields)))

    def _state(self) -> dict[str, Tensor]:
        readouts, found = self.fit.readouts, {}
        for i, contender in enumerate(self.fit.contenders):
            own = {f"{i}.{name}": t for name, t in contender.state_dict().items()}
            found |= own | {
                f"{i}.up.weight": readouts.weights[i].detach(),
                f"{i}.up.bias": readouts.biases[i].detach(),
                f"{i}.log_scale": readouts.log_scales[i].detach(),
            }
        return found


def drawn_from(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose, so that two purposes of a seed share no numbers."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
