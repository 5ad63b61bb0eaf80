"""The positive control: next tokens drawn from a student whose circuits are known to help.

The planted student adds to the healed backbone's classical logits C those of two ring circuits with
angles of their own: the next token of each row is drawn from softmax(C + kappa U z), where U is
random for the most frequent words. kappa is such that who knows z and U predicts these tokens by
`WORTH` nats per token better than by C. Down is the arms' common start. The arm `writer` has this
z and learns U: if it is not better than no map at all, a study tells no useful circuit from others.
Whether the subject finds z, from other angles, is another question, and is answered too.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.durable import whole_folder
from quantum_hybrid.study.fits.fit import Rows, Settings
from quantum_hybrid.study.fits.regime import RegimeFits, drawn_from
from quantum_hybrid.study.ground.corpus import PARTS
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.plan import StudyPlan

WORTH = 0.2
"""Nats per token."""
WORDS = 64
"""The most frequent ones have planted logits: with more, U would have too many numbers to learn."""
SPREAD = 0.1
"""Of the planted circuits' angles: they are far from linear."""
ROWS_AT_ONCE = 256
MOST_KAPPA = 8.0
BISECTIONS = 16


def plant(plan: StudyPlan, healed: HiddenStates, folder: Path) -> None:
    """Write the hidden states of the healed backbone with planted targets; the rest is linked."""
    student = PlantedStudent(plan, healed)
    with whole_folder(folder) as half_written:
        for file in sorted(path for path in healed.folder.rglob("*") if path.is_file()):
            name = file.relative_to(healed.folder)
            target = half_written / name
            target.parent.mkdir(exist_ok=True)
            if name.name != "targets.npy":
                place = folder / name.parent  # Not the folder that is half written.
                target.symlink_to(os.path.relpath(file, place))
        for part in PARTS:
            drawn = student.draw(healed.rows(part, with_features=True), f"planted {part}")
            np.save(half_written / part / "targets.npy", drawn.numpy())


class PlantedStudent:
    """softmax(C + kappa U z)."""

    @torch.no_grad()
    def __init__(self, plan: StudyPlan, healed: HiddenStates) -> None:
        self._seed = plan.text_seed
        self._decoder, self._bias = healed.decoder(), healed.bias()
        fits = RegimeFits(plan, "planted", healed)
        settings = Settings(up_rate=0.0, down_rate=0.0, map_rate=0.0, spread=SPREAD)
        self._contender = fits.writer(settings)
        self._contender.begin(fits.calibration_rows.g)
        targets = healed.rows("training", with_features=False).targets
        counts = torch.bincount(targets, minlength=len(self._decoder))
        frequent = counts.argsort(descending=True, stable=True)[:WORDS]
        drawn = torch.randn(WORDS, plan.n_qubits, generator=drawn_from(self._seed, "planted up"))
        self._up = torch.zeros(len(self._decoder), plan.n_qubits)
        self._up[frequent] = drawn * plan.n_qubits**-0.5
        self.kappa = self._kappa(fits.calibration_rows[torch.arange(ROWS_AT_ONCE)])

    def draw(self, rows: Rows, purpose: str) -> Tensor:
        """A next token for each row."""
        generator = drawn_from(self._seed, purpose)
        drawn = []
        for numbers in torch.arange(len(rows)).split(ROWS_AT_ONCE):
            classical, planted = self.logits(rows[numbers])
            cumulative = (classical + self.kappa * planted).softmax(-1).cumsum(-1)
            at = torch.rand(len(cumulative), 1, generator=generator) * cumulative[:, -1:]
            words = torch.searchsorted(cumulative, at, right=True)[:, 0]
            drawn.append(words.clamp_max(len(self._decoder) - 1))
        return torch.cat(drawn)

    def _kappa(self, rows: Rows) -> float:
        """Where the planted tokens are worth `WORTH`, by bisection."""
        classical, planted = self.logits(rows)
        low, high = 0.0, MOST_KAPPA
        for _ in range(BISECTIONS):
            kappa = (low + high) / 2
            if _worth(classical, kappa * planted) < WORTH:
                low = kappa
            else:
                high = kappa
        return low

    @torch.no_grad()
    def logits(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """C, and U z without kappa."""
        if rows.features is None:
            raise ValueError("rows without features have no classical logits")
        classical = F.linear(rows.features, self._decoder, self._bias)
        return classical, self._contender(rows.g) @ self._up.T


def _worth(classical: Float[Tensor, "rows words"], planted: Float[Tensor, "rows words"]) -> float:
    """Mean divergence of softmax(classical + planted) from softmax(classical), in nats."""
    true = (classical + planted).log_softmax(-1)
    return float((true.exp() * (true - classical.log_softmax(-1))).sum(-1).mean())
