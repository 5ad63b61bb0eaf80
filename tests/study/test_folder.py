"""The folder of a study: what it refuses, and what it leaves."""

from __future__ import annotations

import shutil

import pytest

from one_process import conducted
from quantum_hybrid.cli import main
from quantum_hybrid.errors import CheckpointError, UsageError
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.plan import DEFAULT_PLAN


def test_a_changed_plan_is_refused(small_study, small_plan, tmp_path) -> None:
    path = tmp_path / "study"
    shutil.copytree(small_study, path)
    with pytest.raises(UsageError, match=r"is a study with the plan \w{12}, not"):
        conducted(path, small_plan.model_copy(update={"margin": 0.01}))
    file = path / "plan.yaml"
    kept = file.read_text(encoding="utf-8")
    file.write_text(kept.replace("margin: 0.005", "margin: 0.05"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="was changed after the study began"):
        conducted(path, None)


def test_several_versions_of_the_program_are_named(small_study, tmp_path) -> None:
    path = tmp_path / "study"
    shutil.copytree(small_study, path)
    assert not [note for note in conducted(path, None).notes if "Several versions" in note]
    with (path / "programs.jsonl").open("a", encoding="utf-8") as file:
        file.write('"0123456789abcdef"\n')
    assert [note for note in conducted(path, None).notes if note.endswith(", 0123456789ab.")]


def test_a_plan_that_the_backbone_refuses_leaves_nothing(small_plan, tmp_path) -> None:
    for changes in ({"base_model_name": "./nowhere"}, {"drop_layers": "40-41"}, {"training": 4}):
        with pytest.raises(UsageError):
            conducted(tmp_path / "new" / "study", small_plan.model_copy(update=changes))
        assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_refused_and_left_alone(plan, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files and no study"):
        conducted(tmp_path, plan)
    assert [file.name for file in tmp_path.iterdir() if file.name != ".lock"] == ["notes.txt"]


def test_a_study_that_cannot_have_its_text_leaves_nothing(plan, tmp_path) -> None:
    with pytest.raises(UsageError, match="the plan wants 1036"):
        conducted(tmp_path / "new" / "study", plan.model_copy(update={"training": 1000}))
    assert not list(tmp_path.iterdir())


def test_a_study_in_use_is_refused(small_study) -> None:
    with (
        opened(small_study, None, DEFAULT_PLAN),
        pytest.raises(UsageError, match="another process is at work on this study"),
        opened(small_study, None, DEFAULT_PLAN),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_refused(plan, tmp_path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        conducted(tmp_path / "file" / "study", plan)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_damaged_file_is_named_and_not_said_to_be_resumable(small_study, tmp_path, capfd) -> None:
    study = tmp_path / "study"
    shutil.copytree(small_study, study)
    (study / "tuning/beside.json").write_text("[", encoding="utf-8")
    assert main(["study", "--study-dir", str(study)]) == 2
    printed = capfd.readouterr()
    assert "tuning/beside.json: not the tuning of a study" in printed.err
    assert "Go on with" not in printed.out
