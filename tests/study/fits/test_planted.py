"""The positive control: who writes the text, and that a study would see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from one_process import one_after_the_other
from quantum_hybrid.study.arms import NOTHING, WRITER
from quantum_hybrid.study.conduct import Conductor
from quantum_hybrid.study.fits.fit import Settings
from quantum_hybrid.study.fits.planted import WORTH, PlantedStudent
from quantum_hybrid.study.fits.regime import RegimeFits
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.plan import DEFAULT_PLAN, StudyPlan


@pytest.fixture(scope="module")
def planted_plan(small_plan) -> StudyPlan:
    changes = {"regimes": ("planted",), "arms": ("ring", NOTHING, "identity")}
    return small_plan.model_copy(update=changes)


@pytest.fixture(scope="module")
def ground(planted_plan, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("planted") / "study"
    with opened(path, planted_plan, DEFAULT_PLAN) as study:
        Conductor(study, lambda line: None, one_after_the_other, keeps_page=False).prepare()
    return path / "ground"


def test_it_differs_from_the_healed_ground_in_the_next_tokens_only(ground) -> None:
    healed, planted = (HiddenStates(ground / name) for name in ("healed", "planted"))
    for part in ("training", "validation", "held-out"):
        one, other = (states.rows(part, with_features=True) for states in (healed, planted))
        assert torch.equal(one.g, other.g)
        assert torch.equal(one.prompts, other.prompts)
        assert not torch.equal(one.targets, other.targets)
    assert torch.equal(healed.decoder(), planted.decoder())


def test_the_tokens_are_worth_what_is_said_to_who_knows_the_student(planted_plan, ground) -> None:
    student = PlantedStudent(planted_plan, HiddenStates(ground / "healed"))
    rows = HiddenStates(ground / "planted").rows("training", with_features=True)
    classical, planted = student.logits(rows)
    losses = [
        F.cross_entropy(logits, rows.targets).item()
        for logits in (classical, classical + student.kappa * planted)
    ]
    error = 3 / len(rows) ** 0.5  # A word's loss varies by about a nat.
    assert losses[0] - losses[1] == pytest.approx(WORTH, abs=error)


def test_the_writer_is_an_arm_with_the_same_circuits_for_every_seed(planted_plan, ground) -> None:
    fits = RegimeFits(planted_plan, "planted", HiddenStates(ground / "planted"))
    settings = Settings(up_rate=0.02, down_rate=0.005, map_rate=0.01, spread=0.1)
    trained = [fits.trained([(WRITER, settings)], seed) for seed in (0, 1)]
    weights = [
        np.concatenate([p.detach().numpy().ravel() for p in one.fit.contenders[0].map.parameters()])
        for one in trained
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert [one.use.moved.item() for one in trained] == [0.0, 0.0]
