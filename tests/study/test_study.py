"""A whole study: what it leaves behind, and that nothing interrupts it for good."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from one_process import conducted, hashes, one_after_the_other
from quantum_hybrid.cli import main
from quantum_hybrid.errors import CheckpointError, UsageError, WriteError
from quantum_hybrid.report.study_results import StudyResults
from quantum_hybrid.study.arms import ARMS, Arm, ArmMap
from quantum_hybrid.study.conduct import Conductor
from quantum_hybrid.study.fits.fit import BATCH_ROWS
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.ground.corpus import Corpus
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.plan import DEFAULT_PLAN
from quantum_hybrid.study.results import notes_of
from quantum_hybrid.study.tasks import tasks_of


@pytest.fixture(scope="module")
def done(plan, tmp_path_factory) -> tuple[Path, StudyResults]:
    path = tmp_path_factory.mktemp("studies") / "one"
    return path, conducted(path, plan)


def test_a_study_compares_the_subject_with_every_rival_in_every_regime(done, plan) -> None:
    path, results = done
    assert [regime.name for regime in results.regimes] == ["alone", "beside"]
    for regime in results.regimes:
        assert [one.rival for one in regime.compared] == list(plan.rivals)
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


def test_another_study_of_the_same_texts_counts_as_a_second_look(
    done, small_plan, tmp_path
) -> None:
    _, results = done
    changed = small_plan.model_copy(update={"first_seed": 7})
    second = conducted(tmp_path / "two", changed)
    plans = [look.plan for look in second.looks]
    assert plans.index(results.plan_hash) < plans.index(changed.digest)


def test_judging_again_is_a_second_look(small_plan, tmp_path) -> None:
    path = tmp_path / "study"
    conducted(path, small_plan.model_copy(update={"text_seed": 5}))
    for file in (path / "losses").iterdir():
        file.unlink()
    assert len(conducted(path, None).looks) == 2


def test_a_changed_plan_is_refused(done, plan, tmp_path) -> None:
    path, _ = done
    with pytest.raises(UsageError, match=r"is a study with the plan \w{12}, not"):
        conducted(path, plan.model_copy(update={"margin": 0.01}))
    file = path / "plan.yaml"
    kept = file.read_text(encoding="utf-8")
    try:
        file.write_text(kept.replace("margin: 0.005", "margin: 0.05"), encoding="utf-8")
        with pytest.raises(CheckpointError, match="was changed after the study began"):
            conducted(path, None)
    finally:
        file.write_text(kept, encoding="utf-8")


def test_a_folder_with_other_files_is_refused_and_left_alone(plan, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files and no study"):
        conducted(tmp_path, plan)
    assert [file.name for file in tmp_path.iterdir() if file.name != ".lock"] == ["notes.txt"]


def test_tuning_and_training_do_without_the_held_out_part(
    small_study, small_plan, tmp_path
) -> None:
    with opened(tmp_path / "study", small_plan, DEFAULT_PLAN) as study:
        conductor = Conductor(study, lambda line: None, one_after_the_other, keeps_page=False)
        conductor.prepare()
        held_out = study.ground("beside") / "held-out"
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
    message = r"training 8: a seed sees half of these units, which may have \d+ tokens; .* 512"
    with pytest.raises(UsageError, match=message):
        conducted(tmp_path / "study", small_plan.model_copy(update={"training": 8}))


def test_the_negative_control_is_shuffled_minus_nothing(done) -> None:
    _, results = done
    for regime in results.regimes:
        means = [regime.losses[arm].mean for arm in ("shuffled", "nothing")]
        assert regime.control.difference == pytest.approx(means[0] - means[1], abs=1e-12)


@pytest.mark.parametrize(
    ("difference", "verdict", "note"),
    [
        (0.0, "equivalent", None),
        (0.03, "better", "cost 0.0300 nats per token against nothing at all: an arm may lose"),
        (-0.03, "worse", "gain 0.0300 nats per token over nothing at all: arms are credited"),
    ],
)
def test_a_negative_control_that_fails_is_said(done, difference, verdict, note) -> None:
    _, results = done
    control = replace(results.regimes[0].control, difference=difference, verdict=verdict)
    notes = list(notes_of(replace(results.regimes[0], control=control, nonlinear={})))
    assert len(notes) == (note is not None)
    assert not note or note in notes[0]


def test_a_circuit_that_was_tuned_to_be_linear_is_called_so(done) -> None:
    _, results = done
    for regime in results.regimes:
        assert regime.nonlinear["identity"] < 1e-9
        assert "nothing" not in regime.nonlinear  # Its outputs have no variance.
        for share in (0.0002, 0.5):
            changed = replace(regime, nonlinear={"ring": share}, control=None)
            said = [note for note in notes_of(changed) if "nearly a linear map" in note]
            assert len(said) == (share < 0.05)
            assert not said or "explains 99.98 % of the variance" in said[0]


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


def test_a_damaged_file_is_named_and_not_said_to_be_resumable(small_study, tmp_path, capfd) -> None:
    study = tmp_path / "study"
    shutil.copytree(small_study, study)
    (study / "tuning/beside.json").write_text("[", encoding="utf-8")
    assert main(["study", "--study-dir", str(study)]) == 2
    printed = capfd.readouterr()
    assert "tuning/beside.json: not the tuning of a study" in printed.err
    assert "Go on with" not in printed.out


def test_looks_are_remembered_by_the_study_when_the_cache_has_been_cleared(
    small_study, tmp_path, monkeypatch
) -> None:
    with opened(small_study, None, DEFAULT_PLAN) as study:
        digest = Corpus.read(study.text).held_out_digest
        known = Looks(study, digest).opened()
        monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path))
        own = Looks(study, digest).opened()
        assert own
        assert all(look in known for look in own)


def test_a_study_that_cannot_have_its_text_leaves_nothing(plan, tmp_path) -> None:
    with pytest.raises(UsageError, match="the plan wants 1036"):
        conducted(tmp_path / "new" / "study", plan.model_copy(update={"training": 1000}))
    assert not list(tmp_path.iterdir())


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
        looks = Looks(study, Corpus.read(study.text).held_out_digest)
        assert str(path) not in {look["study"] for look in looks.opened()}


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


@pytest.mark.slow
def test_shapes_are_compared_on_the_ground_of_a_finished_study(small_study, capfd) -> None:
    flags = ["scaling", "--study-dir", str(small_study), "--qubits", "2,24", "--layers", "1"]
    assert main(flags) == 0
    content = json.loads((small_study / "scaling.json").read_text(encoding="utf-8"))
    shapes = {(row["n_qubits"], row["n_layers"]) for row in content["rows"]}
    assert shapes == {(2, 3), (24, 3), (8, 1)}
    assert all(row["loss"] > 0 and row["standard_error"] >= 0 for row in content["rows"])
    assert "identity" in capfd.readouterr().out
    rows = (small_study / "scaling.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(content["rows"])
    # Another shape joins those that are there.
    assert main(["scaling", "--study-dir", str(small_study), "--qubits", "3", "--layers", "1"]) == 0
    content = json.loads((small_study / "scaling.json").read_text(encoding="utf-8"))
    assert {row["n_qubits"] for row in content["rows"]} == {2, 3, 8, 24}
    # Again: nothing is computed, and it is no further look.
    looks = (small_study / "looks.jsonl").read_text(encoding="utf-8")
    assert main(flags) == 0
    assert (small_study / "looks.jsonl").read_text(encoding="utf-8") == looks


def test_scaling_needs_a_finished_study(plan, tmp_path, capfd) -> None:
    assert main(["scaling", "--study-dir", str(tmp_path)]) == 2
    assert "must be the folder of a study" in capfd.readouterr().err
    with opened(tmp_path / "study", plan, DEFAULT_PLAN):
        pass
    assert main(["scaling", "--study-dir", str(tmp_path / "study")]) == 2
    assert "is not finished" in capfd.readouterr().err


def test_a_merge_before_the_shards_are_done_is_refused(plan, tmp_path, capfd) -> None:
    study = tmp_path / "study"
    assert main(["study", "--study-dir", str(study), "--merge"]) == 2
    assert "holds no study whose shards could be merged" in capfd.readouterr().err
    assert not study.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "invalid value '3/2': must be K/N, K from 1 to N"),
        (["--shard", "1/2"], "--shard and --merge need --study-dir"),
        (["--plan", "a", "--quick"], "not allowed with argument"),
        (["--study-dir", ""], "--study-dir '': must name a folder"),
        (["--plan", "nowhere.yaml"], "plan 'nowhere.yaml': cannot be read"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message, capfd, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["study", *arguments])
    except SystemExit as ended:
        status = ended.code
    errors = capfd.readouterr().err
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_study_in_use_is_refused(done) -> None:
    path, _ = done
    with (
        opened(path, None, DEFAULT_PLAN),
        pytest.raises(UsageError, match="another process is at work on this study"),
        opened(path, None, DEFAULT_PLAN),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_refused(plan, tmp_path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        conducted(tmp_path / "file" / "study", plan)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_tasks_are_all_regimes_and_seeds(plan) -> None:
    kinds = [task.kind for task in tasks_of(plan)]
    assert (kinds.count("tune"), kinds.count("fit"), kinds.count("judge")) == (2, 4, 4)
