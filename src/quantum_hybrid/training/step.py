"""One training step: from a group of answers to an update of the student and the step's figures.

With several processes each takes some of the group's answers. Torch's `DistributedDataParallel`
averages the gradients, and sums over processes give the figures of the whole group, so all
processes take the same step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from quantum_hybrid.config import RunConfig
from quantum_hybrid.distillation import Term, method_for
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.evaluation import quantum_state_metrics
from quantum_hybrid.processes.ranks import ALONE, Ranks, noticing_loss
from quantum_hybrid.student import AnswerRows, HybridForCausalLM, HybridHead, answer_rows
from quantum_hybrid.text.encoder import Example
from quantum_hybrid.training.objective import Losses, three_part_loss
from quantum_hybrid.training.optimizer import update


@dataclass(frozen=True)
class StepResult:
    """Figures of one step, measured before its update."""

    metrics: dict[str, float]
    answer_losses: list[float]
    """Hybrid cross-entropy of each answer, in nats per token."""
    answer_gains: list[float]
    """Rise of each answer's loss when the quantum logits are replaced by their mean over the
    group, in nats per token."""
    n_tokens: int
    """Number of answer tokens in the group."""


@dataclass(frozen=True)
class Share:
    """One process's part of a group."""

    answers: list[int]
    """Indices of its answers in the group."""
    rows: AnswerRows
    """Rows of its answers."""
    term: Term
    """Term of the teacher's log-probabilities for its answers."""
    losses: Losses


class _ShareOfGroup(nn.Module):
    """A group of answers -> this process's `Share`. It is a module because DDP wraps modules."""

    def __init__(self, student: HybridForCausalLM, config: RunConfig, ranks: Ranks) -> None:
        super().__init__()
        self.student, self.config, self.ranks = student, config, ranks
        self.method = method_for(*config.distillation())

    def forward(self, group: Sequence[Example]) -> Share:
        answers = self.ranks.share([len(example.tokens) for example in group])
        examples, config = [group[i] for i in answers], self.config
        rows, term = answer_rows(self.student, examples), self.method.term(examples)
        losses = three_part_loss(
            self.student.head,
            rows.hidden,
            rows.targets,
            classical_weight=config.classical_loss_weight,
            quantum_weight=config.quantum_loss_weight,
            term=term,
            ranks=self.ranks,
        )
        return Share(answers, rows, term, losses)


class Objective:
    """The objective of a group of answers and its gradient, on one or several processes.

    With several, the constructor copies the first process's student to all of them, and a group
    must have at least one answer per process.
    """

    def __init__(self, student: HybridForCausalLM, config: RunConfig, ranks: Ranks = ALONE) -> None:
        self.student, self.config, self.ranks = student, config, ranks
        self._of: nn.Module = _ShareOfGroup(student, config, ranks)
        if ranks.size > 1:
            with noticing_loss():
                self._of = DistributedDataParallel(self._of)

    def share(self, group: Sequence[Example]) -> Share:
        """This process's part. Raises `TrainingError` in all processes if one's is not finite."""
        share: Share = self._of(group)
        value = self.ranks.mean(share.losses.objective.detach()[None], 1).item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value}: training has diverged; lower `learning_rate`"
            )
        return share

    def backward(self, share: Share) -> None:
        """Set the student's gradients to those of the whole group."""
        self.student.zero_grad(set_to_none=True)
        with noticing_loss():
            share.losses.objective.backward()


def training_step(
    objective: Objective, optimizer: AdamW, group: Sequence[Example], step: int
) -> StepResult:
    """Train on one group; `step` counts from 0.

    Raises `TrainingError` if a loss or gradient is not finite or does not reach the circuits.
    """
    student, config = objective.student, objective.config
    share = objective.share(group)
    result = _figures(student.head, share, len(group), objective.ranks)
    objective.backward(share)
    result.metrics["train/quantum_gradient_norm"] = circuit_gradient_norm(student)
    update(student, optimizer, config, step)
    return result


def check_gradients(objective: Objective, group: Sequence[Example]) -> None:
    """Check by one backward pass, without an update, that the gradient reaches the circuits.

    Raises `TrainingError` if it does not.
    """
    objective.backward(objective.share(group))
    circuit_gradient_norm(objective.student)
    objective.student.zero_grad(set_to_none=True)


def circuit_gradient_norm(student: HybridForCausalLM) -> float:
    """Norm of the gradient of both circuits' weights.

    Raises `TrainingError` if the norm of one circuit is zero or not finite.
    """
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


@torch.no_grad()
def _figures(head: HybridHead, share: Share, n_answers: int, ranks: Ranks) -> StepResult:
    rows, losses, n_rows = share.rows, share.losses, len(share.rows.targets)
    own = {
        "train/hybrid_loss": losses.hybrid.mean().item(),
        "train/classical_loss": losses.classical.mean().item(),
        "train/quantum_loss": losses.quantum.mean().item(),
        **quantum_state_metrics(head, rows),
    }
    metrics = ranks.means(own, n_rows) | {"train/alpha_value": head.alpha.item()}
    n_tokens = int(ranks.total(torch.tensor(n_rows)))
    metrics |= share.term.figures(losses.log_q, n_tokens, ranks)
    answer_losses = rows.per_example(losses.hybrid)
    of_answers = answer_losses.new_zeros(2, n_answers)
    gains = rows.per_example(losses.ablated) - answer_losses
    of_answers[:, share.answers] = torch.stack([answer_losses, gains])
    answer_losses, gains = ranks.total(of_answers).tolist()
    return StepResult(metrics, answer_losses, gains, n_tokens)
