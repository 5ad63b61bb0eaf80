"""One training step: its gradient, its errors and its figures."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from quantum_hybrid.circuit import QuantumLayer
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.text.encoder import IGNORED
from quantum_hybrid.training import (
    Learner,
    Losses,
    Objective,
    build_optimizer,
    check_gradients,
    trainable_parts,
    training_step,
)
from quantum_hybrid.training import step as step_module


@pytest.fixture(scope="module")
def built(new_learner) -> Learner:
    return new_learner(train_backbone="full", max_grad_norm=1e9)


@pytest.fixture
def student(built):
    """A student before its first step; each test has its own."""
    return copy.deepcopy(built.model)


@pytest.fixture
def step(built, student):
    """Takes the first step of that student on a group."""

    def take(examples, **changes):
        config = built.config.model_copy(update=changes)
        optimizer = build_optimizer(student, config)
        return training_step(Objective(student, config), optimizer, examples, 0)

    return take


def plain_objective(student, examples, c: float = 0.5, q: float = 0.5) -> torch.Tensor:
    """hybrid + c * classical + q * quantum, one example and one token at a time."""
    losses, count = [torch.zeros(()) for _ in range(3)], 0
    for example in examples:
        logits = student.head(student.hidden_states(torch.tensor([example.tokens]))[0])
        for position in range(example.n_context - 1, len(example.tokens) - 1):
            token = example.tokens[position + 1]
            for i, part in enumerate((logits.hybrid, logits.classical, logits.quantum)):
                losses[i] = losses[i] - part[position].log_softmax(-1)[token]
            count += 1
    return (losses[0] + c * losses[1] + q * losses[2]) / count


def gradients(student) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("c", "q"), [(0.5, 0.5), (0.0, 2.0)])
def test_the_gradient_is_that_of_the_plain_objective(student, step, groups, c, q) -> None:
    reference = copy.deepcopy(student)
    plain_objective(reference, groups[0], c, q).backward()
    step(groups[0], classical_loss_weight=c, quantum_loss_weight=q)
    expected, got = gradients(reference), gradients(student)
    assert got.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max().item() + 1e-6
        torch.testing.assert_close(got[name], expected[name], rtol=1e-3, atol=1e-4 * scale)


def plain_losses(
    head, hidden, targets, *, classical_weight, quantum_weight, term=None, ranks=None
) -> Losses:
    """`three_part_loss` computed from complete logits."""
    logits = head(hidden)
    with torch.no_grad():
        mean_quantum = head.quantum.up(logits.z.mean(0)).expand_as(logits.classical)
        ablated = head.mix(logits.classical, mean_quantum)
    predictions = (logits.hybrid, logits.classical, logits.quantum, ablated)
    rows = [F.cross_entropy(p, targets, reduction="none") for p in predictions]
    pathways = classical_weight * rows[1].mean() + quantum_weight * rows[2].mean()
    of_rows = [row.detach() for row in rows]
    return Losses(rows[0].mean() + pathways, *of_rows, log_q=-of_rows[0][:, None])


@pytest.mark.parametrize("mixing", ["logits", "probability"])
@pytest.mark.parametrize("train_backbone", ["lora", "full"])
def test_a_training_goes_where_the_plain_formula_takes_it(
    new_learner, groups, monkeypatch, mixing, train_backbone
) -> None:
    values = {"mixing": mixing, "train_backbone": train_backbone}
    learner, plain = new_learner(**values), new_learner(**values)
    results = [learner.train_on(group, i) for i, group in enumerate(groups)]
    monkeypatch.setattr(step_module, "three_part_loss", plain_losses)
    expected = [plain.train_on(group, i) for i, group in enumerate(groups)]
    for got, other in zip(results, expected, strict=True):
        assert got.metrics == pytest.approx(other.metrics, rel=1e-3, abs=1e-4)
        assert got.answer_losses == pytest.approx(other.answer_losses, rel=1e-4)
        assert got.answer_gains == pytest.approx(other.answer_gains, abs=1e-4)
    assert results[-1].metrics["train/alpha_value"] != results[0].metrics["train/alpha_value"]


def test_a_group_of_two_is_the_token_weighted_mean_of_two_groups_of_one(
    built, student, groups
) -> None:
    """Batch 1 x 2 = 2 x 1, in gradients."""
    together, n_tokens = copy.deepcopy(student), []
    optimizer = build_optimizer(together, built.config)
    training_step(Objective(together, built.config), optimizer, groups[1], 0)
    sums: dict[str, torch.Tensor] = {}
    for example in groups[1]:
        alone = copy.deepcopy(student)
        optimizer = build_optimizer(alone, built.config)
        objective = Objective(alone, built.config)
        n_tokens.append(training_step(objective, optimizer, [example], 0).n_tokens)
        for name, gradient in gradients(alone).items():
            sums[name] = sums.get(name, 0) + n_tokens[-1] * gradient
    assert n_tokens[0] != n_tokens[1]
    for name, gradient in gradients(together).items():
        scale = gradient.abs().max().item() + 1e-6
        mean = sums[name] / sum(n_tokens)
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-4 * scale)


def test_prompt_tokens_are_context_and_never_targets(student, step, groups) -> None:
    """The gradient at the backbone's output: only rows that predict an answer token have one."""
    captured = []

    def keep(module, inputs, output) -> None:
        output.last_hidden_state.retain_grad()
        captured.append(output.last_hidden_state)

    student.backbone.register_forward_hook(keep)
    result = step(groups[0])
    gradient = captured[0].grad.abs().sum(-1)
    for row, example in enumerate(groups[0]):
        first, last = example.n_context - 1, len(example.tokens) - 1
        assert gradient[row, :first].eq(0).all()
        assert gradient[row, first:last].gt(0).all()
        assert gradient[row, last:].eq(0).all()
    assert result.n_tokens == sum(len(e.tokens) - e.n_context for e in groups[0])


def test_a_prompt_still_matters_as_context(built, student, groups) -> None:
    example = groups[0][0]
    other = dataclasses.replace(example, tokens=(*example.tokens[:2], 300, *example.tokens[3:]))
    assert other.mask[2] == IGNORED
    with torch.no_grad():
        losses = [plain_objective(student, [e]).item() for e in (example, other)]
    assert losses[0] != losses[1]
    for loss, e in zip(losses, (example, other), strict=True):
        taken = copy.deepcopy(student)
        optimizer = build_optimizer(taken, built.config)
        result = training_step(Objective(taken, built.config), optimizer, [e], 0).metrics
        total = result["train/hybrid_loss"] + 0.5 * result["train/classical_loss"]
        assert total + 0.5 * result["train/quantum_loss"] == pytest.approx(loss, rel=1e-5)


def unchanged(student, before) -> bool:
    return all(torch.equal(before[name], p) for name, p in student.named_parameters())


def snapshot(student) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in student.named_parameters()}


def test_a_circuit_whose_gradient_is_cut_off_stops_the_run(
    built, student, step, groups, monkeypatch
) -> None:
    before, forward = snapshot(student), QuantumLayer.forward
    monkeypatch.setattr(QuantumLayer, "forward", lambda self, x: forward(self, x).detach())
    with pytest.raises(TrainingError, match=r"circuit1's weights has norm 0\.0: .* not reach"):
        step(groups[0])
    assert unchanged(student, before)
    with pytest.raises(TrainingError, match="circuit1"):
        check_gradients(Objective(student, built.config), groups[0])


@pytest.mark.parametrize("cut", ["circuit1", "circuit2"])
def test_each_circuit_is_watched(student, step, groups, monkeypatch, cut) -> None:
    """A constant in place of the circuit's weights: its inputs still get their gradient."""
    circuit = getattr(student.head.quantum, cut)
    forward = QuantumLayer.forward

    def defective(self, x):
        if self is not circuit:
            return forward(self, x)
        frozen = copy.deepcopy(self).requires_grad_(False)
        return forward(frozen, x)

    monkeypatch.setattr(QuantumLayer, "forward", defective)
    with pytest.raises(TrainingError, match=f"{cut}'s weights has norm 0.0"):
        step(groups[0])


def test_a_start_up_check_finds_it_before_anything_is_trained(new_learner, monkeypatch) -> None:
    forward = QuantumLayer.forward
    monkeypatch.setattr(QuantumLayer, "forward", lambda self, x: forward(self, x).detach())
    learner = new_learner(train_backbone="none")
    with pytest.raises(TrainingError, match="does not reach the quantum circuit"):
        learner.check_gradients()


def test_a_nan_loss_stops_the_run_and_changes_nothing(student, step, groups) -> None:
    torch.nn.init.constant_(student.head.quantum.up.bias, math.nan)
    before = snapshot(student)
    with pytest.raises(TrainingError, match="the loss is nan: training has diverged"):
        step(groups[0])
    after = snapshot(student)
    assert after.pop("head.quantum.up.bias").isnan().all()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_no_gradient_of_the_step_before_is_left(student, step, groups) -> None:
    step(groups[0])
    reference = copy.deepcopy(student)
    reference.zero_grad()
    plain_objective(reference, groups[1]).backward()
    step(groups[1])
    alpha = "head.alpha_logit"
    torch.testing.assert_close(gradients(student)[alpha], gradients(reference)[alpha])


def test_the_start_up_check_leaves_no_trace(built, student, groups) -> None:
    before = snapshot(student)
    check_gradients(Objective(student, built.config), groups[0])
    assert unchanged(student, before)
    assert gradients(student) == {}


def test_each_part_is_clipped_by_itself(student, step, groups) -> None:
    reference = copy.deepcopy(student)
    plain_objective(reference, groups[0]).backward()
    whole = {
        part: math.hypot(*(float(gradients(reference)[name].norm()) for name in parameters))
        for part, parameters in trainable_parts(reference).items()
    }
    limit = sorted(whole.values())[1] * 1.01  # two parts below it, two above
    step(groups[0], max_grad_norm=limit)
    expected = gradients(reference)
    for part, parameters in trainable_parts(student).items():
        share = min(1.0, limit / whole[part])
        for name, parameter in parameters.items():
            scale = expected[name].abs().max().item() + 1e-6
            torch.testing.assert_close(
                parameter.grad, share * expected[name], rtol=1e-3, atol=1e-4 * scale
            )


def test_the_gradient_norm_is_that_of_both_circuits_before_clipping(student, step, groups) -> None:
    reference = copy.deepcopy(student)
    plain_objective(reference, groups[0]).backward()
    quantum = reference.head.quantum
    whole = gradients(quantum)
    norms = [float(whole[f"{name}.weights"].norm()) for name in ("circuit1", "circuit2")]
    metrics = step(groups[0], max_grad_norm=1e-6).metrics
    assert metrics["train/quantum_gradient_norm"] == pytest.approx(math.hypot(*norms), rel=1e-3)


def test_answers_are_scored_by_themselves_and_before_the_update(student, step, groups) -> None:
    """The gain: Q replaced by the mean of Q over the rows of the group."""
    before = copy.deepcopy(student)
    result = step(groups[0])
    classical, quantum, targets = [], [], []
    with torch.no_grad():
        for example in groups[0]:
            hidden = before.hidden_states(torch.tensor([example.tokens]))[0]
            logits = before.head(hidden[example.n_context - 1 : -1])
            classical.append(logits.classical)
            quantum.append(logits.quantum)
            targets.append(torch.tensor(example.tokens[example.n_context :]))
    mean_q = torch.cat(quantum).mean(0)
    alpha = before.head.alpha.item()
    r = math.hypot(alpha, 1 - alpha)
    for i in range(2):
        mixed = (alpha * classical[i] + (1 - alpha) * quantum[i]) / r
        without = (alpha * classical[i] + (1 - alpha) * mean_q) / r
        loss = F.cross_entropy(mixed, targets[i]).item()
        gain = F.cross_entropy(without, targets[i]).item() - loss
        assert result.answer_losses[i] == pytest.approx(loss, rel=1e-5)
        assert result.answer_gains[i] == pytest.approx(gain, abs=1e-5)
    assert result.metrics["train/alpha_value"] == alpha
    sizes = [len(t) for t in targets]
    mean = sum(x * n for x, n in zip(result.answer_losses, sizes, strict=True)) / sum(sizes)
    assert result.metrics["train/hybrid_loss"] == pytest.approx(mean, rel=1e-5)


def test_every_figure_of_the_design_is_there_and_finite(step, groups) -> None:
    metrics = step(groups[0]).metrics
    assert metrics.keys() == {
        "train/hybrid_loss",
        "train/classical_loss",
        "train/quantum_loss",
        "train/alpha_value",
        "train/quantum_coherence",
        "train/quantum_entanglement",
        "train/quantum_gradient_norm",
    }
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["train/quantum_coherence"] <= 1
    assert 0 <= metrics["train/quantum_entanglement"] <= 1
    assert metrics["train/quantum_gradient_norm"] > 0
