"""Checkpoints: a resumed run equals an unbroken one, and damage is detected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.training import Learner, Progress, tidy_checkpoints


def silent(line: str) -> None:
    raise AssertionError(f"said {line!r}")


def same(one: Learner, two: Learner) -> bool:
    """Parameters and AdamW's moments, bit for bit."""
    pairs = zip(one.model.named_parameters(), two.model.named_parameters(), strict=True)
    for (name, a), (other_name, b) in pairs:
        moments, others = one.optimizer.state[a], two.optimizer.state[b]
        if name != other_name or not torch.equal(a, b) or moments.keys() != others.keys():
            return False
        if not all(torch.equal(moments[m], others[m]) for m in moments):
            return False
    return True


@pytest.mark.parametrize("how", ["none", "lora", "full"])
def test_a_resumed_run_equals_an_unbroken_one(new_learner, groups, tmp_path, how) -> None:
    unbroken = new_learner(train_backbone=how)
    metrics = []
    for step in range(4):
        metrics.append(unbroken.train_on(groups[step], step).metrics)
        if step == 1:
            unbroken.save_checkpoint(tmp_path, Progress(2, 3))
    resumed = new_learner(resumes=True, train_backbone=how)
    assert resumed.model.head.alpha.isnan()
    assert resumed.load_checkpoint(tmp_path, silent) == Progress(2, 3)
    assert not same(resumed, unbroken)
    for step in (2, 3):
        assert resumed.train_on(groups[step], step).metrics == metrics[step]
    assert same(resumed, unbroken)
    assert resumed.evaluate(groups[0]) == unbroken.evaluate(groups[0])


@pytest.fixture(scope="module")
def trained(new_learner, groups, tmp_path_factory) -> tuple[Learner, Path]:
    """A learner after three steps and the folder with its checkpoints of steps 2 and 3."""
    folder = tmp_path_factory.mktemp("checkpoints")
    learner = new_learner(train_backbone="none")
    for step in range(3):
        learner.train_on(groups[step], step)
        learner.save_checkpoint(folder, Progress(step + 1, step + 2))
    return learner, folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of those checkpoints, to be damaged."""
    return Path(shutil.copytree(trained[1], tmp_path / "checkpoints"))


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_checkpoints_are_kept(trained) -> None:
    assert names(trained[1]) == ["step-000002", "step-000003"]


@pytest.mark.parametrize("kept", [1, 3])
def test_as_many_checkpoints_are_kept_as_asked_for(new_learner, tmp_path, kept) -> None:
    learner = new_learner(train_backbone="none", checkpoints_kept=kept)
    for step in range(1, 6):
        learner.save_checkpoint(tmp_path, Progress(step, step))
    assert names(tmp_path) == ["step-000003", "step-000004", "step-000005"][-kept:]


# Were damaged ones counted among the last, the one just written would be dropped in their favour.
def test_damaged_checkpoints_do_not_crowd_out_whole_ones(trained, folder) -> None:
    learner = trained[0]
    learner.save_checkpoint(folder, Progress(4, 4))
    for step in (3, 4):
        (folder / f"step-{step:06d}" / "meta.json").write_text("{", encoding="utf-8")
    learner.save_checkpoint(folder, Progress(2, 2))
    assert names(folder) == ["step-000002"]
    assert learner.load_checkpoint(folder, silent) == Progress(2, 2)


def test_loading_changes_nothing_and_tidying_clears_what_a_killed_process_left(
    trained, folder
) -> None:
    left = [".step-000001.old", ".step-000004.tmp", "step-000001"]
    for name in left:
        shutil.copytree(folder / "step-000002", folder / name)
    assert trained[0].load_checkpoint(folder, silent) == Progress(3, 4)
    assert names(folder) == [*left, "step-000002", "step-000003"]
    tidy_checkpoints(folder, 3, kept=2)
    assert names(folder) == ["step-000002", "step-000003"]


def test_other_names_in_the_folder_are_left_alone(trained, folder) -> None:
    (folder / "step-000003 (copy)").mkdir()
    assert trained[0].load_checkpoint(folder, silent) == Progress(3, 4)
    assert "step-000003 (copy)" in names(folder)


def test_loading_goes_back_to_the_newest(trained, folder, new_learner) -> None:
    learner = new_learner(train_backbone="none")
    assert learner.load_checkpoint(folder, silent) == Progress(3, 4)
    assert same(learner, trained[0])


def test_there_is_no_progress_without_a_checkpoint(trained, tmp_path) -> None:
    learner = trained[0]
    assert learner.load_checkpoint(tmp_path / "none", silent) is None
    assert learner.load_checkpoint(tmp_path, silent) is None


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    trained, folder, new_learner, position
) -> None:
    flip(folder / "step-000003" / "state.safetensors", position)
    said: list[str] = []
    learner = new_learner(train_backbone="none")
    assert learner.load_checkpoint(folder, said.append) == Progress(2, 3)
    assert len(said) == 1
    assert f"{folder / 'step-000003'} cannot be used" in said[0]
    expected = new_learner(train_backbone="none")
    shutil.rmtree(folder / "step-000003")
    expected.load_checkpoint(folder, silent)
    assert same(learner, expected)
    assert not same(learner, trained[0])


@pytest.mark.parametrize("missing", ["state.safetensors", "meta.json"])
def test_a_checkpoint_that_misses_a_file_is_damaged(trained, folder, missing) -> None:
    (folder / "step-000003" / missing).unlink()
    said: list[str] = []
    assert trained[0].load_checkpoint(folder, said.append) == Progress(2, 3)
    assert len(said) == 1


# A flipped digit of an unprotected number would be another number.
def test_no_flipped_bit_of_the_progress_goes_unnoticed(trained, folder) -> None:
    meta = folder / "step-000003" / "meta.json"
    whole = meta.read_bytes()
    unnoticed = []
    for position in range(len(whole)):
        flip(meta, position)
        said: list[str] = []
        progress = trained[0].load_checkpoint(folder, said.append)
        if not (progress == Progress(3, 4) or (progress == Progress(2, 3) and said)):
            unnoticed.append((meta.read_text(encoding="utf-8"), progress))
        meta.write_bytes(whole)
    assert unnoticed == []


@pytest.mark.parametrize("content", ["[]", "null", "1", '{"step": null}', "", "{"])
def test_a_meta_file_that_says_something_else_is_damage(trained, folder, content) -> None:
    (folder / "step-000003" / "meta.json").write_text(content, encoding="utf-8")
    said: list[str] = []
    assert trained[0].load_checkpoint(folder, said.append) == Progress(2, 3)
    assert len(said) == 1


def rewrite_meta(checkpoint: Path, **changes: Any) -> None:
    file = checkpoint / "meta.json"
    fields = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(
        json.dumps({name: v for name, v in fields.items() if v is not None}), encoding="utf-8"
    )


def test_a_checkpoint_of_another_format_is_named_and_the_one_before_is_used(
    trained, folder
) -> None:
    rewrite_meta(folder / "step-000003", format=2)
    said: list[str] = []
    assert trained[0].load_checkpoint(folder, said.append) == Progress(2, 3)
    assert "it is of format 2, this program reads 1" in said[0]


def test_a_checkpoint_of_before_formats_had_numbers_is_read(trained, folder) -> None:
    rewrite_meta(folder / "step-000003", format=None)
    assert trained[0].load_checkpoint(folder, silent) == Progress(3, 4)


def test_a_run_all_of_whose_checkpoints_are_damaged_does_not_start_over(trained, folder) -> None:
    for path in folder.iterdir():
        (path / "meta.json").write_text("{", encoding="utf-8")
    said: list[str] = []
    with pytest.raises(CheckpointError, match="no checkpoint can be used"):
        trained[0].load_checkpoint(folder, said.append)
    assert len(said) == 2


def test_what_was_half_written_is_not_a_checkpoint(trained, folder) -> None:
    (folder / "step-000003").rename(folder / ".step-000004.tmp")
    learner = trained[0]
    assert learner.load_checkpoint(folder, silent) == Progress(2, 3)
    learner.save_checkpoint(folder, Progress(4, 4))
    assert names(folder) == ["step-000002", "step-000004"]
    assert learner.load_checkpoint(folder, silent) == Progress(4, 4)


def test_a_step_may_be_saved_again(trained, folder) -> None:
    trained[0].save_checkpoint(folder, Progress(3, 9))
    assert trained[0].load_checkpoint(folder, silent) == Progress(3, 9)


# As text, "step-1000000" stands before "step-999999".
@pytest.mark.parametrize("last", [999_999, 1_000_000])
def test_the_newest_is_the_one_with_the_highest_step(trained, folder, last) -> None:
    learner = trained[0]
    learner.save_checkpoint(folder, Progress(last - 1, 0))
    learner.save_checkpoint(folder, Progress(last, 0))
    assert learner.load_checkpoint(folder, silent) == Progress(last, 0)


def test_a_checkpoint_of_another_student_is_refused(trained, folder, new_learner) -> None:
    other = new_learner(train_backbone="none", n_qubits=4)
    with pytest.raises(CheckpointError, match=r"step-000003: holds no head.quantum.*of shape"):
        other.load_checkpoint(folder, silent)
    larger = new_learner(train_backbone="lora")
    with pytest.raises(CheckpointError, match=r"step-000003: holds no backbone.*lora"):
        larger.load_checkpoint(folder, silent)
