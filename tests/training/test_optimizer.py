"""Parts of the student, their learning rates and their weight decay."""

from __future__ import annotations

import math

import pytest
import torch

from quantum_hybrid.config import RunConfig
from quantum_hybrid.training import build_optimizer, set_learning_rates, trainable_parts
from quantum_hybrid.training.optimizer import PARTS, part_of, schedule_factor, update


@pytest.fixture
def student(make_student):
    return make_student()


def test_every_parameter_is_in_one_part(student) -> None:
    parts = trainable_parts(student)
    assert tuple(parts) == PARTS
    names = [name for parameters in parts.values() for name in parameters]
    assert sorted(names) == sorted(name for name, _ in student.named_parameters())
    assert list(parts["alpha"]) == ["head.alpha_logit"]
    assert parts["quantum"]["head.quantum.circuit1.weights"].shape == (3, 8)


def test_what_is_not_trained_is_in_no_part(student) -> None:
    student.backbone.requires_grad_(False)
    student.head.classical.decoder.requires_grad_(False)
    parts = trainable_parts(student)
    assert parts["backbone"] == {}
    assert not any("decoder" in name for name in parts["classical"])


def test_a_parameter_of_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"head.other belongs to no part"):
        part_of("head.other")


def test_only_matrices_of_the_backbone_and_the_classical_pathway_decay(student) -> None:
    optimizer = build_optimizer(student, RunConfig(weight_decay=0.02))
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in student.named_parameters():
        is_matrix = parameter.ndim == 2
        decays = is_matrix and name.startswith(("backbone.", "head.classical."))
        if parameter is not student.head.alpha_logit:
            assert decay.pop(parameter) == (0.02 if decays else 0.0), name
    assert not decay


def test_decay_is_decoupled_and_moves_only_what_decays(student) -> None:
    """With a gradient of zero AdamW's update is w <- w (1 - lr * decay)."""
    config = RunConfig(
        weight_decay=0.5, total_steps=10, warmup_steps=1, learning_rate=0.1, head_learning_rate=0.1
    )
    optimizer = build_optimizer(student, config)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    set_learning_rates(optimizer, config, 0)
    optimizer.step()
    for name, parameter in student.named_parameters():
        decays = parameter.ndim == 2 and name.startswith(("backbone.", "head.classical."))
        assert torch.equal(parameter, before[name]) != decays, name
    embedding = student.get_input_embeddings().weight
    expected = before["backbone.embed_tokens.weight"] * (1 - config.backbone_learning_rate() * 0.5)
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (5, 5 / 6), (9, 1 / 6), (10, 0)]
)
def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero(step, factor) -> None:
    assert schedule_factor(step, total_steps=10, warmup_steps=4) == pytest.approx(factor)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (5, 0), (5, 5), (50, 5), (7, 6)])
def test_every_step_of_a_run_learns_and_none_more_than_at_the_peak(total, warmup) -> None:
    factors = [schedule_factor(step, total, warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    peak = factors.index(1)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


# `serve` has no last step.
@pytest.mark.parametrize("warmup", [0, 4, 5])
def test_after_the_last_step_nothing_is_learned(warmup) -> None:
    assert schedule_factor(5, total_steps=5, warmup_steps=warmup) == 0
    assert schedule_factor(99, total_steps=5, warmup_steps=warmup) == 0


def test_each_part_has_a_learning_rate_of_its_own(student) -> None:
    config = RunConfig(
        total_steps=10,
        warmup_steps=2,
        train_backbone="full",
        head_learning_rate=3e-3,
        quantum_learning_rate=5e-2,
    )
    optimizer = build_optimizer(student, config)
    set_learning_rates(optimizer, config, 0)
    rate = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    head = student.head
    assert rate[head.classical.norm.weight] == pytest.approx(1.5e-3)
    assert rate[head.classical.transform.out.bias] == pytest.approx(1.5e-3)
    assert rate[head.quantum.circuit2.weights] == pytest.approx(2.5e-2)
    assert rate[head.quantum.up.weight] == pytest.approx(2.5e-2)
    assert rate[student.get_input_embeddings().weight] == pytest.approx(2.5e-5)


def test_what_reads_a_hidden_state_learns_as_much_slower_as_that_is_wide(student) -> None:
    """An update of AdamW moves d weights at once: an encoding angle would move d times as far."""
    config = RunConfig(total_steps=10, warmup_steps=0)
    optimizer = build_optimizer(student, config)
    set_learning_rates(optimizer, config, 0)
    rate = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    quantum, classical = student.head.quantum, student.head.classical
    assert rate[quantum.down.weight] == pytest.approx(config.quantum_learning_rate / 32)
    assert rate[quantum.down.bias] == pytest.approx(config.quantum_learning_rate)
    for linear in (classical.transform.into, classical.transform.out, classical.decoder):
        assert rate[linear.weight] == pytest.approx(config.head_learning_rate / 32)


def set_alpha(student, alpha: float) -> None:
    with torch.no_grad():
        student.head.alpha_logit.copy_(torch.tensor(alpha).logit())


def moved_alpha(student, gradient: float, rate: float) -> float:
    """alpha after one step at the peak learning rate, for a given dL/dalpha."""
    config = RunConfig(total_steps=2, warmup_steps=0, alpha_learning_rate=rate)
    student.zero_grad()
    (student.head.alpha * gradient).backward()
    update(student, build_optimizer(student, config), config, 0)
    return student.head.alpha.item()


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("gradient", [-0.8, 0.3])
def test_a_step_of_alpha_is_that_of_two_experts(student, alpha, gradient) -> None:
    """Each weight times exp(-rate * its own gradient), over the sum; also near 0 and 1."""
    set_alpha(student, alpha)
    grown = alpha * math.exp(-0.5 * gradient)
    expected = grown / (grown + 1 - alpha)
    assert moved_alpha(student, gradient, rate=0.5) == pytest.approx(expected, abs=1e-6)


def test_a_large_gradient_of_alpha_is_clipped(student) -> None:
    set_alpha(student, 0.5)
    expected = 1 / (1 + math.exp(-1.0))
    assert moved_alpha(student, -50.0, rate=1.0) == pytest.approx(expected, abs=1e-5)


def test_alpha_comes_back_from_either_end(student) -> None:
    for _ in range(30):
        moved_alpha(student, -1.0, rate=5.0)
    assert 0.9999 < student.head.alpha.item() < 1
    for _ in range(3):
        moved_alpha(student, 1.0, rate=5.0)
    assert student.head.alpha.item() < 0.01
