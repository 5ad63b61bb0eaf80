"""One training step: a group of answers in, an update of the student and its figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim import AdamW

from quantum_hybrid.config import RunConfig
from quantum_hybrid.corpus import Example
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.evaluation import quantum_state_metrics
from quantum_hybrid.student import AnswerRows, HybridForCausalLM, HybridHead, answer_rows
from quantum_hybrid.training.losses import Distilled, Losses, three_part_loss
from quantum_hybrid.training.optimizer import update
from quantum_hybrid.training.top_k import TopK


@dataclass(frozen=True)
class StepResult:
    """Figures of one step, all taken before its update."""

    metrics: dict[str, float]
    answer_losses: list[float]
    """Hybrid cross-entropy of each answer, in nats per token."""
    answer_gains: list[float]
    """The same with the quantum logits replaced by their mean over the group, minus without."""
    n_tokens: int
    """Answer tokens trained on."""


def training_step(
    student: HybridForCausalLM,
    optimizer: AdamW,
    examples: Sequence[Example],
    config: RunConfig,
    step: int,
) -> StepResult:
    """Train on one group. Raises `TrainingError` for a loss or gradient that means nothing."""
    rows, losses = _forward(student, examples, config)
    result = _figures(student.head, rows, losses)
    student.zero_grad(set_to_none=True)
    losses.objective.backward()
    result.metrics["train/quantum_gradient_norm"] = circuit_gradient_norm(student)
    update(student, optimizer, config, step)
    return result


def check_gradients(
    student: HybridForCausalLM, examples: Sequence[Example], config: RunConfig
) -> None:
    """One backward pass without an update: the objective's gradient must reach the circuits."""
    _, losses = _forward(student, examples, config)
    losses.objective.backward()
    circuit_gradient_norm(student)
    student.zero_grad(set_to_none=True)


def circuit_gradient_norm(student: HybridForCausalLM) -> float:
    """Norm of the gradient of both circuits' weights; zero or a NaN is a defect, and raised."""
    quantum = student.head.quantum
    total = 0.0
    for name, circuit in (("circuit1", quantum.circuit1), ("circuit2", quantum.circuit2)):
        gradient = circuit.weights.grad
        norm = 0.0 if gradient is None else float(gradient.double().norm())
        if not (math.isfinite(norm) and norm > 0):
            raise TrainingError(
                f"the gradient of {name}'s weights has norm {norm}: the objective does not reach "
                "the quantum circuit, so its figures would mean nothing"
            )
        total += norm**2
    return math.sqrt(total)


def _forward(
    student: HybridForCausalLM, examples: Sequence[Example], config: RunConfig
) -> tuple[AnswerRows, Losses]:
    rows = answer_rows(student, examples)
    losses = three_part_loss(
        student.head,
        rows.hidden,
        rows.targets,
        classical_weight=config.classical_loss_weight,
        quantum_weight=config.quantum_loss_weight,
        distilled=_distilled(examples, config),
    )
    if not math.isfinite(losses.objective.item()):
        raise TrainingError(
            f"the loss is {losses.objective.item()}: training has diverged; "
            "lower --env.learning_rate"
        )
    return rows, losses


def _distilled(examples: Sequence[Example], config: RunConfig) -> Distilled | None:
    if not config.distill_top_logprobs:
        return None
    return Distilled(TopK.of(examples), config.distill_weight, config.distill_temperature)


@torch.no_grad()
def _figures(head: HybridHead, rows: AnswerRows, losses: Losses) -> StepResult:
    answer_losses = rows.per_example(losses.hybrid)
    gains = rows.per_example(losses.ablated) - answer_losses
    metrics = {
        "train/hybrid_loss": losses.hybrid.mean().item(),
        "train/classical_loss": losses.classical.mean().item(),
        "train/quantum_loss": losses.quantum.mean().item(),
        "train/alpha_value": head.alpha.item(),
        **quantum_state_metrics(head, rows),
    }
    if losses.kl is not None and losses.n_listed is not None:
        metrics["train/kl_rows"] = len(losses.kl) / len(rows.targets)
        if len(losses.kl):
            metrics["train/kl_to_teacher"] = losses.kl.mean().item()
            metrics["train/kl_listed"] = losses.n_listed.double().mean().item()
    return StepResult(metrics, answer_losses.tolist(), gains.tolist(), len(rows.targets))
