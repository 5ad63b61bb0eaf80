"""What all fits of one regime share, and the fits: many arms on the same rows in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.study.arms import ARMS
from quantum_hybrid.study.fits.fit import Contender, Fit, Rows, Settings, Start, batches
from quantum_hybrid.study.fits.linearity import nonlinear_shares
from quantum_hybrid.study.fits.readouts import Readouts
from quantum_hybrid.study.fits.sampling import half_sample
from quantum_hybrid.study.fits.start import Calibration, Recalibrated
from quantum_hybrid.study.ground.corpus import Part
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.plan import Regime, StudyPlan

CALIBRATION_ROWS = 2_048
"""Training rows from which all arms start."""
LINEARITY_ROWS = 2_048
"""Training rows on which it is measured how far the arms are from linear ones."""
RECALIBRATION = Settings(up_rate=0.01, down_rate=0.1, map_rate=0.1, spread=0.1)
RECALIBRATION_EPOCHS = 3


class RegimeFits:
    """Fits of arms in a regime of a study."""

    def __init__(self, plan: StudyPlan, regime: Regime, ground: HiddenStates) -> None:
        self._plan, self._regime, self._ground = plan, regime, ground
        self._decoder, self._bias = ground.decoder(), ground.bias()
        self._training = self.rows("training")
        # A plan may use fewer units than its ground holds; an index would copy them all.
        if plan.training <= int(self._training.prompts[-1]):
            self._training = self._training[self._training.prompts < plan.training]

    @property
    def is_beside(self) -> bool:
        """Whether the arms stand beside classical logits."""
        return self._regime != "alone"

    def rows(self, part: Part) -> Rows:
        """The rows of a part."""
        return self._ground.rows(part, with_features=self.is_beside)

    @cached_property
    def _calibration(self) -> Calibration:
        generator = drawn_from(self._plan.text_seed, "calibration")
        order = torch.randperm(len(self._training), generator=generator)[:CALIBRATION_ROWS]
        rows = self._ground.rows("training", with_features=True)[order.sort().values]
        if rows.features is None:
            raise ValueError("a ground always has features")
        targets = self._training.targets
        return Calibration(rows.g, rows.features, self._decoder, self._bias, targets)

    def recalibrated(self) -> Recalibrated:
        """Train the scale and the bias of each word that recalibrate the classical logits."""
        (contender,) = self._contenders([("nothing", RECALIBRATION)], 0, self._start)
        words = len(self._decoder)
        untouched = Recalibrated(torch.zeros(words), torch.zeros(()))
        readouts = self._calibration.readouts([contender], untouched)
        generator = drawn_from(self._plan.text_seed, "recalibration")
        order = batches(len(self._training), RECALIBRATION_EPOCHS, generator)
        fit = self._fit([contender], readouts, n_steps=len(order))
        for numbers in order:
            fit.step(self._training[numbers])
        return Recalibrated(readouts.biases[0].detach(), readouts.log_scales[0].detach())

    def trained(
        self,
        arms: Sequence[tuple[str, Settings]],
        recalibrated: Recalibrated | None,
        seed: int,
    ) -> Trained:
        """Train arms side by side. The seed draws initial values, order and half of the training
        units. All seeds share these units, so their mean is about these texts and not about other
        ones (docs/log.md#instrument).
        """
        contenders, readouts = self.begun(arms, seed, recalibrated)
        chosen = self._sample(seed)
        order = batches(len(chosen), self._plan.epochs, drawn_from(seed, "order"))
        fit = self._fit(contenders, readouts, n_steps=len(order))
        curve = [fit.step(self._training[chosen[numbers]]) for numbers in order]
        g = self._training.g[chosen[:LINEARITY_ROWS]]
        return Trained(fit, torch.stack(curve, 1), nonlinear_shares(contenders, g))

    def begun(
        self,
        arms: Sequence[tuple[str, Settings]],
        seed: int,
        recalibrated: Recalibrated | None = None,
    ) -> tuple[list[Contender], Readouts]:
        """Arms at their start."""
        contenders = self._contenders(arms, seed, self._start)
        return contenders, self._calibration.readouts(contenders, recalibrated)

    def untrained(self, arms: Sequence[tuple[str, Settings]], seed: int) -> Trained:
        """The same arms without training, for `Trained.read`."""
        d_model, shape = self._decoder.shape[1], self._plan.shape
        contenders = [Contender.blank(ARMS[name], own, shape, d_model, seed) for name, own in arms]
        readouts = Readouts(len(contenders), len(self._decoder), self._plan.n_qubits)
        fit = self._fit(contenders, readouts, n_steps=0)
        return Trained(fit, torch.zeros(len(arms), 0), torch.zeros(len(arms)))

    def _contenders(
        self, arms: Sequence[tuple[str, Settings]], seed: int, start: Start
    ) -> list[Contender]:
        return [Contender(ARMS[name], own, start, self._plan.shape, seed) for name, own in arms]

    @cached_property
    def _start(self) -> Start:
        return self._calibration.start(self._plan.n_qubits)

    def _sample(self, seed: int) -> Tensor:
        """Numbers of the rows of half of the training units."""
        units = self._training.prompts
        chosen = half_sample(int(units.max()) + 1, drawn_from(seed, "sample"))
        return torch.isin(units, chosen).nonzero()[:, 0]

    def _fit(self, contenders: Sequence[Contender], readouts: Readouts, *, n_steps: int) -> Fit:
        return Fit(contenders, readouts, self._decoder, self._bias, n_steps=n_steps)


@dataclass(frozen=True)
class Trained:
    """Arms after their training."""

    fit: Fit
    curve: Float[Tensor, "arms steps"]
    """Mean loss of each arm before each step, in nats."""
    nonlinear: Float[Tensor, " arms"]
    """`nonlinear_shares` on training rows, at the end."""

    def mean_losses(self, rows: Rows) -> Float[Tensor, " arms"]:
        """In nats per token; not finite for an arm that diverged."""
        return self.prompt_losses(rows).sum(1) / len(rows)

    def prompt_losses(self, rows: Rows) -> Float[Tensor, "arms prompts"]:
        """Loss of each prompt, summed over its rows; not finite for an arm that diverged."""
        return self.fit.prompt_losses(rows, int(rows.prompts.max()) + 1)

    def write(self, file: Path) -> None:
        """Write all parameters, the curve and the shares, atomically."""
        found = {"curve": self.curve, "nonlinear": self.nonlinear}
        write_bytes(file, save(self._state() | found))

    def read(self, file: Path) -> Trained:
        """What `write` has written. Raises `CheckpointError` for other content."""
        try:
            state = load_file(file)
            with torch.no_grad():
                for name, tensor in self._state().items():
                    tensor.copy_(state[name])
            return Trained(self.fit, state["curve"], state["nonlinear"])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{file}: not a fit of this study: {error}") from error

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
