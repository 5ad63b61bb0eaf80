"""A step of a head, forward and backward, in one of three ways; a program for ``worker``.

- ``classical``: the classical pathway alone, with torch's cross-entropy.
- ``plain``: three logits for every row and word, torch's cross-entropy of each, and the metrics.
- ``one pass``: as training does it, the same losses and the same metrics.

The job does not matter. Values: the losses (of ``classical`` none), a few rows of the gradient by
the hidden states, a few words of that by `up`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantum_hybrid.evaluation import ablated_logits, quantum_state_metrics, row_losses
from quantum_hybrid.student import AnswerRows, ClassicalHead, HybridHead, QuantumHead
from quantum_hybrid.training import three_part_loss

ANSWERS = 4
N_QUBITS, N_LAYERS = 8, 3
WEIGHT = 0.5
"""Of the classical and of the quantum loss."""
_SHOWN = 16

Run = Callable[[], tuple[Tensor, Tensor, Tensor]]


def build(job: SimpleNamespace, way: str, mixing: str, decoder: str, size: str) -> Run:
    """One step; ``decoder`` is frozen or trained; ``size``: width, vocabulary, tokens."""
    torch.manual_seed(0)
    d_model, vocabulary, n_tokens = map(int, size.split(","))
    classical = ClassicalHead(nn.LayerNorm(d_model), d_model, vocabulary, decoder_bias=False)
    quantum = QuantumHead(d_model, vocabulary, N_QUBITS, N_LAYERS)
    head = HybridHead(classical, quantum, "probability" if mixing == "probability" else "logits")
    classical.decoder.requires_grad_(decoder == "trained")
    rows = AnswerRows(
        torch.randn(n_tokens, d_model, requires_grad=True),
        torch.randint(0, vocabulary, (n_tokens,)),
        torch.arange(n_tokens) * ANSWERS // n_tokens,
    )
    step = {"classical": _classical, "plain": _plain, "one pass": _one_pass}[way]

    def run() -> tuple[Tensor, Tensor, Tensor]:
        for tensor in (rows.hidden, *head.parameters()):
            tensor.grad = None
        losses = step(head, rows)
        by_hidden, by_up = rows.hidden.grad, quantum.up.weight.grad
        assert by_hidden is not None
        return losses, by_hidden[:_SHOWN], torch.zeros(0) if by_up is None else by_up[:_SHOWN]

    few = slice(0, 2 * ANSWERS)
    step(head, AnswerRows(rows.hidden[few].detach(), rows.targets[few], rows.example[few]))
    return run  # Numba has compiled by now.


def _classical(head: HybridHead, rows: AnswerRows) -> Tensor:
    F.cross_entropy(head.classical(rows.hidden), rows.targets).backward()
    return torch.zeros(0)


def _plain(head: HybridHead, rows: AnswerRows) -> Tensor:
    logits = head(rows.hidden)
    predictions = (logits.hybrid, logits.classical, logits.quantum)
    losses = [F.cross_entropy(prediction, rows.targets) for prediction in predictions]
    with torch.no_grad():
        ablated = ablated_logits(head, logits.classical, logits.z.mean(0))
        of_rows = [row_losses(each, rows.targets) for each in (logits.hybrid, ablated)]
        _figures(head, rows, *of_rows)
    (losses[0] + WEIGHT * losses[1] + WEIGHT * losses[2]).backward()
    return torch.stack(losses).detach()


def _one_pass(head: HybridHead, rows: AnswerRows) -> Tensor:
    losses = three_part_loss(
        head, rows.hidden, rows.targets, classical_weight=WEIGHT, quantum_weight=WEIGHT
    )
    _figures(head, rows, losses.hybrid, losses.ablated)
    losses.objective.backward()
    return torch.stack([losses.hybrid.mean(), losses.classical.mean(), losses.quantum.mean()])


def _figures(head: HybridHead, rows: AnswerRows, hybrid: Tensor, ablated: Tensor) -> None:
    """What a training step makes of its losses."""
    rows.per_example(hybrid).tolist()
    rows.per_example(ablated).tolist()
    quantum_state_metrics(head, rows)
