"""The regime joint."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from one_process import conducted


def test_arms_are_trained_together_with_the_backbone(small_plan, tmp_path) -> None:
    path = tmp_path / "study"
    arms = ("ring", "nothing", "frozen ring")
    results = conducted(path, small_plan.model_copy(update={"regimes": ("joint",), "arms": arms}))
    (regime,) = results.regimes
    assert [one.rival for one in regime.compared] == ["nothing", "frozen ring"]
    for arm in arms:
        curve, losses = regime.curves[arm], regime.losses[arm].of_seeds
        assert len(curve) == small_plan.healing_steps
        # Held out, the student stays near what it was in training: it is the one that was trained.
        assert losses[0] == pytest.approx(curve[-1], rel=0.2)
    # A frozen circuit's angles are those of its start; the ring's have moved.
    states = [
        load_file(path / f"fits/joint-0-{arm}.safetensors") for arm in ("ring", "frozen-ring")
    ]
    names = [name for name in states[0] if name.startswith("head.quantum.contender.map")]
    assert names
    assert all((states[0][name] != states[1][name]).any() for name in names)
    assert not any("lora" in name and not (state[name] != 0).any() for state in states
                   for name in state)  # fmt: skip
