"""The notes on a study's page. Each test changes one result and looks for the note about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from example_study import MARGIN, compared, study
from quantum_hybrid.report.study_results import ArmUse, RegimeResults
from quantum_hybrid.study.notes import notes_of


@pytest.fixture
def regime() -> RegimeResults:
    """One on which there is nothing to note."""
    (alone,) = study(("alone",)).regimes
    assert not list(notes_of(alone, MARGIN))
    return alone


@pytest.mark.parametrize(
    ("difference", "verdict", "note"),
    [
        (0.0, "equivalent", None),
        (0.03, "better", "cost 0.0300 nats per token against nothing at all: an arm may lose"),
        (-0.03, "worse", "gain 0.0300 nats per token over nothing at all. What is shuffled should"),
    ],
)
def test_a_negative_control_that_fails_is_said(regime, difference, verdict, note) -> None:
    control = replace(compared("shuffled", difference, 0.001), verdict=verdict)
    notes = list(notes_of(replace(regime, control=control), MARGIN))
    assert len(notes) == (note is not None)
    assert not note or note in notes[0]


def test_a_circuit_that_was_tuned_to_be_linear_is_called_so(regime) -> None:
    use = ArmUse(nonlinear=0.0002, moved=0.001, directions=8)
    tuned = replace(regime.tuned["ring"], validation_loss=5.0, wide_loss=5.25)
    changed = replace(regime, uses={"ring": use}, tuned={**regime.tuned, "ring": tuned})
    (note,) = notes_of(changed, MARGIN)
    assert "explains 99.98 % of the variance" in note
    assert "its best trial was 0.2500 nats per token worse" in note
    far = replace(changed, uses={"ring": replace(use, nonlinear=0.5)})
    assert not list(notes_of(far, MARGIN))


def test_a_regime_in_which_no_arm_gains_anything_is_said_to_tell_nothing(regime) -> None:
    (note,) = notes_of(replace(regime, best_gain=0.004), MARGIN)
    assert "the best arm gains 0.0040 nats per token over nothing at all" in note
    for gain in (0.006, None):
        assert not list(notes_of(replace(regime, best_gain=gain), MARGIN))


def test_a_positive_control_that_finds_nothing_is_said(regime) -> None:
    for verdict in ("better", "equivalent"):
        against = replace(compared("identity", 0.02, 0.001), verdict=verdict)
        changed = replace(regime, is_control=True, positive=against)
        notes = list(notes_of(changed, MARGIN))
        assert len(notes) == (verdict != "better")
        assert not notes or "this study tells no useful circuit from others" in notes[0]
