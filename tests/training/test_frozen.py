"""A frozen backbone processes each text once, without any change of figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantum_hybrid.student import answer_rows
from quantum_hybrid.training import Learner

STEPS = 5


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path))
    return tmp_path


def count_passes(learner: Learner) -> list[int]:
    """A list that grows by one with each forward pass of the backbone."""
    passes: list[int] = []
    learner.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    return passes


def outcome(learner: Learner, groups) -> tuple[list, dict[str, float], dict[str, torch.Tensor]]:
    """All figures of a few steps and an evaluation, and all weights after them."""
    results = [learner.train_on(groups[step % 3], step) for step in range(STEPS)]
    return results, learner.evaluate(groups[3] + groups[0]), learner.model.state_dict()


def assert_same(one, other) -> None:
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])


def test_cold_warm_and_without_a_store_are_the_same_bits(new_learner, groups, cache) -> None:
    cold = outcome(new_learner(train_backbone="none"), groups)
    warm = outcome(new_learner(train_backbone="none"), groups)
    without = new_learner(train_backbone="none")
    without.model.features = None
    assert_same(cold, warm)
    assert_same(cold, outcome(without, groups))


def test_a_text_goes_through_the_backbone_once(new_learner, groups, cache) -> None:
    learner = new_learner(train_backbone="none")
    passes = count_passes(learner)
    outcome(learner, groups)
    assert len(passes) == len({example.tokens for group in groups for example in group})


def test_a_second_run_makes_no_pass_at_all(new_learner, groups, cache) -> None:
    outcome(new_learner(train_backbone="none"), groups)
    again = new_learner(train_backbone="none", seed=1)
    passes = count_passes(again)
    outcome(again, groups)
    assert not passes


def test_other_layers_are_another_backbone(new_learner, groups, cache) -> None:
    outcome(new_learner(train_backbone="none", drop_layers="1-1"), groups)
    other = new_learner(train_backbone="none", drop_layers="2-2")
    passes = count_passes(other)
    outcome(other, groups)
    assert passes


@pytest.mark.parametrize("how", ["lora", "full"])
def test_a_backbone_that_is_trained_keeps_nothing(new_learner, groups, cache, how) -> None:
    outcome(new_learner(train_backbone=how), groups)
    assert not (cache / "features").exists()


def test_a_row_does_not_depend_on_the_texts_beside_it(new_learner, groups, cache) -> None:
    student = new_learner(train_backbone="none").model
    student.features = None
    examples = groups[0] + groups[1]
    assert len({len(example.tokens) for example in examples}) > 1
    together = answer_rows(student, examples)
    alone = [answer_rows(student, [example]) for example in examples]
    assert torch.equal(together.hidden, torch.cat([rows.hidden for rows in alone]))
    assert torch.equal(together.targets, torch.cat([rows.targets for rows in alone]))
    counts = torch.tensor([len(rows.targets) for rows in alone])
    assert torch.equal(torch.bincount(together.example), counts)


def test_the_same_rows_as_those_of_a_batch(new_learner, groups, cache) -> None:
    student = new_learner(train_backbone="none").model
    frozen = answer_rows(student, groups[1])
    student.backbone.requires_grad_(True)
    batch = answer_rows(student, groups[1])
    torch.testing.assert_close(frozen.hidden, batch.hidden.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(frozen.targets, batch.targets)
    assert torch.equal(frozen.example, batch.example)
