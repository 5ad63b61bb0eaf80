"""The fits of a regime: which rows they are trained on, and which ones they start from."""

from __future__ import annotations

import pytest
import torch

from quantum_hybrid.study.fits.fit import Settings
from quantum_hybrid.study.fits.regime import RegimeFits
from quantum_hybrid.study.ground.hidden_states import HiddenStates

SETTINGS = Settings(up_rate=0.05, down_rate=0.05, map_rate=0.01, spread=0.1)


def test_the_two_halves_of_a_seed_are_all_units_and_share_none(small_study, small_plan) -> None:
    fits = RegimeFits(small_plan, "beside", HiddenStates(small_study / "ground/healed"))
    rows, halves = fits.rows("training"), fits.halves(0)
    own, other = (set(rows.prompts[part].tolist()) for part in (halves.own, halves.other))
    assert not own & other
    assert own | other == set(range(small_plan.training))
    assert len(own) == small_plan.training // 2
    assert not torch.equal(fits.halves(1).own, halves.own)


@pytest.mark.parametrize("regime", ["alone", "beside"])
def test_arms_start_from_what_they_are_not_trained_on(small_study, small_plan, regime) -> None:
    def start(part: str | None) -> torch.Tensor:
        """Biases of an arm before its training, with one word in all rows of a half."""
        fits = RegimeFits(small_plan, regime, HiddenStates(small_study / "ground/healed"))
        halves = fits.halves(0)
        if part is not None:
            fits._training.targets[getattr(halves, part)] = 7
        _, readouts = fits._begun([("identity", SETTINGS)], 0, halves)
        return readouts.biases[0].detach().clone()

    assert torch.equal(start("own"), start(None))
    assert not torch.equal(start("other"), start(None))
