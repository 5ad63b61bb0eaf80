"""A whole study: what it leaves behind, and that nothing interrupts it for good."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from one_process import conducted, hashes, one_after_the_other
from quantum_hybrid.errors import UsageError, WriteError
from quantum_hybrid.report.study_results import StudyResults
from quantum_hybrid.study.arms import ARMS, Arm, ArmMap
from quantum_hybrid.study.conduct import Conductor
from quantum_hybrid.study.fits.fit import BATCH_ROWS
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.ground.corpus import Corpus
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.plan import DEFAULT_PLAN
from quantum_hybrid.study.tasks import tasks_of


@pytest.fixture(scope="module")
def done(plan, tmp_path_factory) -> tuple[Path, StudyResults]:
    path = tmp_path_factory.mktemp("studies") / "one"
    return path, conducted(path, plan)


def test_a_study_compares_the_subject_with_every_rival_in_every_regime(done, plan) -> None:
    path, results = done
    assert [regime.name for regime in results.regimes] == ["alone", "beside"]
    for regime in results.regimes:
        assert [one.rival for one in regime.compared] == list(plan.rivals(regime.name))
        for one in regime.compared:
            assert one.low is not None
            assert one.low < one.difference < one.high
            found = regime.losses[one.rival].mean - regime.losses["ring"].mean
            assert one.difference == pytest.approx(found, abs=1e-12)
    assert results.progress.missing == []
    kept = json.loads((path / "results.json").read_text(encoding="utf-8"))
    assert kept["plan_hash"] == plan.digest


def test_losses_are_those_of_the_kept_arms(done, plan) -> None:
    path, results = done
    sums = np.load(path / "losses/beside-1.npy")
    units = np.load(path / "ground/healed/held-out/units.npy")
    assert sums.shape == (len(plan.arms), plan.held_out)
    assert units.max() + 1 == plan.held_out
    means = sums.sum(1) / len(units)
    regime = results.regimes[1]
    assert [regime.losses[arm].of_seeds[1] for arm in plan.arms] == pytest.approx(list(means))


def test_a_seed_sees_half_of_the_training_units_once(done) -> None:
    path, results = done
    lengths = np.bincount(np.load(path / "ground/healed/training/units.npy"))
    least, most = (sum(part) for part in np.split(np.sort(lengths), 2))
    for regime in results.regimes:
        assert least // BATCH_ROWS <= len(regime.curve_tokens) <= most // BATCH_ROWS
    assert most // BATCH_ROWS < lengths.sum() // BATCH_ROWS


def test_every_arm_has_the_same_number_of_trials(done, plan) -> None:
    _, results = done
    for regime in results.regimes:
        assert {arm: own.n_trials for arm, own in regime.tuned.items()} == dict.fromkeys(
            plan.arms, plan.tuning_trials
        )


def test_tables_hold_the_figures_of_the_results(done) -> None:
    path, results = done
    [table] = [file for file in path.glob("*.csv") if "compar" in file.name]
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    compared = [one for regime in results.regimes for one in regime.compared]
    assert len(rows) == len(compared)
    assert [float(row["difference"]) for row in rows] == [one.difference for one in compared]


def test_a_finished_study_computes_nothing_again_and_is_not_a_second_look(done) -> None:
    path, results = done
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*.safetensors")}
    again = conducted(path, None)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*.safetensors")} == before
    assert again.regimes == results.regimes
    assert len(again.looks) == len(results.looks)


def test_tuning_and_training_do_without_the_held_out_part(
    small_study, small_plan, tmp_path
) -> None:
    with opened(tmp_path / "study", small_plan, DEFAULT_PLAN) as study:
        conductor = Conductor(study, lambda line: None, one_after_the_other, keeps_page=False)
        conductor.prepare()
        held_out = study.ground("healed") / "held-out"
        held_out.rename(tmp_path / "sealed")
        conductor.tune_and_fit()
        (tmp_path / "sealed").rename(held_out)
        conductor.judge()
    assert hashes(tmp_path / "study") == hashes(small_study)


def test_a_backbone_that_was_healed_before_gives_the_same_hidden_states(
    small_study, small_plan, tmp_path
) -> None:
    with opened(tmp_path / "study", small_plan, DEFAULT_PLAN) as study:
        for kept in (study.text, study.healed):
            shutil.copy(small_study / kept.name, kept)
        Conductor(study, lambda line: None, one_after_the_other).prepare()
    found, expected = hashes(tmp_path / "study"), hashes(small_study)
    assert found == {name: expected[name] for name in found}
    assert any(name.startswith("ground/") for name in found)


def test_hidden_states_that_find_no_room_cost_nothing(small_study, small_plan, tmp_path) -> None:
    """A limit on the size of files stands for a full disk; NumPy tells no reason of either."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path / "study", small_plan, DEFAULT_PLAN) as study:
        for kept in (study.text, study.healed):
            shutil.copy(small_study / kept.name, kept)
        conductor = Conductor(study, lambda line: None, one_after_the_other, keeps_page=False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(WriteError, match=r"healed: cannot be written: .*disk full\?"):
                conductor.prepare()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / "study/ground").iterdir())
        conductor.prepare()
    found, expected = hashes(tmp_path / "study"), hashes(small_study)
    assert found == {name: expected[name] for name in found}


def test_a_training_part_that_fills_no_batch_is_refused(small_plan, tmp_path) -> None:
    message = r"training 4: a seed sees half of these units, which may have \d+ tokens; .* 128"
    with pytest.raises(UsageError, match=message):
        conducted(tmp_path / "study", small_plan.model_copy(update={"training": 4}))


def test_what_there_is_to_gain_is_that_of_the_best_arm_but_for_the_shuffled_one(done) -> None:
    _, results = done
    for regime in results.regimes:
        best = min(regime.losses[arm].mean for arm in ("ring", "identity"))
        assert regime.best_gain == pytest.approx(regime.losses["nothing"].mean - best, abs=1e-12)


def test_the_negative_control_is_shuffled_minus_nothing(done) -> None:
    _, results = done
    for regime in results.regimes:
        means = [regime.losses[arm].mean for arm in ("shuffled", "nothing")]
        assert regime.control.difference == pytest.approx(means[0] - means[1], abs=1e-12)


class Explosive(ArmMap):
    """Finite until its parameter moves."""

    def __init__(self, *_) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(()))

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        return angles * torch.exp((1e9 * (self.w - 1)) ** 2) + self.w


def test_an_arm_that_diverges_stands_in_the_table_and_disturbs_no_other(
    small_study, small_plan, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(ARMS, "explosive", Arm("explosive", "diverges", Explosive))
    arms = (*small_plan.arms, "explosive")
    results = conducted(tmp_path / "study", small_plan.model_copy(update={"arms": arms}))
    (regime,) = results.regimes
    assert regime.losses["explosive"].of_seeds == {0: None, 1: None}
    assert regime.tuned["explosive"].n_diverged == small_plan.tuning_trials
    assert [(one.rival, one.verdict) for one in regime.compared][-1] == ("explosive", "diverged")
    (note,) = [note for note in results.notes if "diverged" in note]
    assert note.startswith("explosive diverged in 2 of 2 seeds of the regime beside")
    page = (tmp_path / "study/study.html").read_text(encoding="utf-8")
    assert "explosive diverged in 2 of 2 seeds" in page
    for seed in (0, 1):
        losses = [np.load(path / f"losses/beside-{seed}.npy") for path in
                  (tmp_path / "study", small_study)]  # fmt: skip
        np.testing.assert_array_equal(losses[0][:2], losses[1])
    text = (tmp_path / "study/results.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_study_says_what_it_is_going_to_do(small_study) -> None:
    said = []
    with opened(small_study, None, DEFAULT_PLAN) as study:
        Conductor(study, said.append).introduce()
    text = "\n".join(said)
    assert "2 arms x 2 seeds, beside; margin 0.005" in text
    assert "50 documents for training, 12 for the tuning with 5 trials an arm, 24 held out" in text
    assert "about 1 minute on" in text
    assert str(study.page) in text


def test_the_held_out_part_stays_closed_until_all_fits_are_done(done, plan, tmp_path) -> None:
    path = tmp_path / "study"
    with opened(path, plan, DEFAULT_PLAN) as study:
        conductor = Conductor(study, lambda line: None, one_after_the_other)
        conductor.prepare()
        conductor.tune()
        conductor.fit(slice(0, 3))
        with pytest.raises(UsageError, match="1 of 4 fits are missing, such as fit alone, seed 1"):
            conductor.judge()
        assert not list((path / "losses").iterdir())
        looks = Looks(study, Corpus.read(study.text).held_out_digests)
        assert str(path) not in {look["study"] for look in looks.opened()}


def test_tasks_are_all_regimes_and_seeds(plan) -> None:
    kinds = [task.kind for task in tasks_of(plan)]
    assert (kinds.count("tune"), kinds.count("fit"), kinds.count("judge")) == (2, 4, 4)
