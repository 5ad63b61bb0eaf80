"""Every logged number about a student's predictions, with its formula.

Rows are (hidden state, next token) pairs of answers. Losses are means over rows, in nats per token.
The vocabulary projection runs in chunks of rows, so memory does not grow with the text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.circuit import coherence_and_entanglement
from quantum_hybrid.distillation import top_k_kl
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.evaluation.statistics import mean_over_units
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.student import (
    AnswerRows,
    HybridForCausalLM,
    HybridHead,
    answer_rows,
    answer_targets,
)
from quantum_hybrid.text.encoder import Example, teacher_rows

LARGEST_LOSS = 700.0
"""In nats per token; the perplexity of a larger loss overflows float64."""
ROWS_PER_CHUNK = 256
EXAMPLES_PER_BATCH = 4


def row_losses(
    logits: Float[Tensor, "rows vocabulary"], targets: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Cross-entropy of each row, in nats."""
    return F.cross_entropy(logits, targets, reduction="none")


def predictive_entropy(logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, " rows"]:
    """Shannon entropy of each row's prediction, in nats."""
    log_p = F.log_softmax(logits, -1)
    return -(log_p.exp() * log_p).sum(-1)


def hybrid_performance(hybrid_entropy: float, classical_entropy: float) -> float:
    """The seed's comparison: 1 - |H_h - H_c| / max(H_h, H_c), of mean predictive entropies."""
    largest = max(hybrid_entropy, classical_entropy)
    return 1.0 if largest == 0 else 1 - abs(hybrid_entropy - classical_entropy) / largest


@torch.no_grad()
def quantum_state_metrics(head: HybridHead, rows: AnswerRows) -> dict[str, float]:
    """Coherence and Meyer-Wallach entanglement, means over rows and both circuits, in [0, 1]."""
    quantum = head.quantum
    first = quantum.angles(head.classical.norm(rows.hidden))
    found = [
        coherence_and_entanglement(quantum.circuit1, first),
        coherence_and_entanglement(quantum.circuit2, quantum.second_angles(first)),
    ]
    coherences, entanglements = (torch.cat(values) for values in zip(*found, strict=True))
    return {
        "train/quantum_coherence": coherences.mean().item(),
        "train/quantum_entanglement": entanglements.mean().item(),
    }


def ablated_logits(
    head: HybridHead, classical: Float[Tensor, "rows vocabulary"], mean_z: Float[Tensor, " qubits"]
) -> Float[Tensor, "rows vocabulary"]:
    """The mixture with Q replaced by its mean: `up` is linear, so that is `up` of the mean z."""
    return head.mix(classical, head.quantum.up(mean_z).expand_as(classical))


def variance_shares(
    head: HybridHead,
    hybrid: Float[Tensor, "rows vocabulary"],
    quantum: Float[Tensor, "rows vocabulary"],
) -> tuple[float, float]:
    """Numerator and denominator of model/quantum_contribution, summed over rows.

    Share of the variance of H over the vocabulary that comes from w Q, w being Q's weight in it:
    sum cov(w Q, H) / sum var(H). The classical part's share is the rest, so the two add
    up to 1. With mixing="probability" H and Q stand for probabilities, whose mixture is the sum.
    """
    if head.mixing == "probability":
        hybrid, quantum = hybrid.exp(), F.softmax(quantum, -1)
    part = head.weights()[1] * (quantum - quantum.mean(-1, keepdim=True))
    whole = hybrid - hybrid.mean(-1, keepdim=True)
    return float((part * whole).sum().double()), float(whole.square().sum().double())


@torch.no_grad()
def evaluate(
    student: HybridForCausalLM, examples: Sequence[Example], ranks: Ranks = ALONE
) -> dict[str, float]:
    """All eval/* and model/* metrics of docs/metrics.md on held-out answers.

    eval/kl_to_teacher exists only if some answer has the teacher's probabilities in the student's
    own vocabulary; eval/kl_tokens is the number of its tokens. With several processes, the first
    one returns the metrics; the others compute a part of the hidden states and return nothing.
    """
    head = student.head
    rows = all_answer_rows(student, examples, ranks)
    if not ranks.is_first:
        return {}
    z = torch.cat([head.expectations(h) for h in rows.hidden.split(ROWS_PER_CHUNK)])
    teacher = teacher_rows(examples)
    sums: defaultdict[str, float] = defaultdict(float)
    losses = []
    for chunk in _chunks(len(rows.targets)):
        losses.append(_add_chunk(head, rows, z, z.mean(0), chunk, sums))
        _add_kl(head, rows, z, teacher, chunk, sums)
    metrics = _from_sums(head.alpha.item(), len(rows.targets), sums)
    return metrics | _comparisons(torch.cat(losses), rows.example)


def all_answer_rows(
    student: HybridForCausalLM, examples: Sequence[Example], ranks: Ranks = ALONE
) -> AnswerRows:
    """The rows of any number of examples; the backbone gets a few examples at a time.

    Several processes divide the batches among them; only the first one ends with all hidden states.
    """
    starts = range(0, len(examples), EXAMPLES_PER_BATCH)
    batches = [examples[start : start + EXAMPLES_PER_BATCH] for start in starts]
    owners = [i % ranks.size for i in range(len(batches))]
    hidden = [
        answer_rows(student, batch).hidden if owner == ranks.rank else _empty_rows(student, batch)
        for owner, batch in zip(owners, batches, strict=True)
    ]
    for rows, owner in zip(hidden, owners, strict=True):
        ranks.bring(rows, owner)
    return AnswerRows(torch.cat(hidden), *answer_targets(examples))


def _empty_rows(student: HybridForCausalLM, examples: Sequence[Example]) -> Tensor:
    """Uninitialised hidden states, to be received from another process."""
    reads_hidden = student.head.quantum.down.weight
    return reads_hidden.new_empty(len(answer_targets(examples)[0]), reads_hidden.shape[1])


def _chunks(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, ROWS_PER_CHUNK):
        yield slice(start, min(start + ROWS_PER_CHUNK, n_rows))


def _add_chunk(
    head: HybridHead,
    rows: AnswerRows,
    z: Tensor,
    mean_z: Tensor,
    chunk: slice,
    sums: defaultdict[str, float],
) -> Float[Tensor, "rows 3"]:
    """Adds to the sums; returns each row's hybrid, classical and ablated loss."""
    targets = rows.targets[chunk]
    classical = head.classical(rows.hidden[chunk])
    quantum = head.quantum.up(z[chunk])
    hybrid = head.mix(classical, quantum)
    ablated = ablated_logits(head, classical, mean_z)
    losses = [row_losses(logits, targets).double() for logits in (hybrid, classical, ablated)]
    sums["hybrid_loss"] += losses[0].sum().item()
    sums["classical_loss"] += losses[1].sum().item()
    sums["quantum_loss"] += row_losses(quantum, targets).double().sum().item()
    sums["hybrid_entropy"] += float(predictive_entropy(hybrid).double().sum())
    sums["classical_entropy"] += float(predictive_entropy(classical).double().sum())
    part, whole = variance_shares(head, hybrid, quantum)
    sums["quantum_covariance"] += part
    sums["hybrid_variance"] += whole
    return torch.stack(losses, -1)


def _add_kl(
    head: HybridHead,
    rows: AnswerRows,
    z: Tensor,
    teacher: dict[int, tuple[tuple[int, ...], tuple[float, ...]]],
    chunk: slice,
    sums: defaultdict[str, float],
) -> None:
    known = [row for row in range(chunk.start, chunk.stop) if row in teacher]
    for width in {len(teacher[row][0]) for row in known}:
        same = [row for row in known if len(teacher[row][0]) == width]
        classical = head.classical(rows.hidden[same])
        # In float64: the rest left by a nearly certain student would be rounding error in float32.
        log_q = F.log_softmax(head.mix(classical, head.quantum.up(z[same])).double(), -1)
        ids = torch.tensor([teacher[row][0] for row in same])
        log_p = torch.tensor([teacher[row][1] for row in same], dtype=torch.float64)
        sums["kl"] += float(top_k_kl(log_p, log_q.gather(1, ids)).sum())
        sums["kl_tokens"] += len(same)


def _comparisons(
    losses: Float[Tensor, "rows 3"], example: Int[Tensor, " rows"]
) -> dict[str, float]:
    """Paired differences between predictions on the same tokens, with their standard errors."""
    hybrid, classical, ablated = losses.unbind(-1)
    differences = {
        "quantum_ablation": ablated - hybrid,
        "hybrid_minus_classical": hybrid - classical,
    }
    metrics = {}
    for name, difference in differences.items():
        estimate = mean_over_units(difference, example)
        metrics[f"eval/{name}"] = estimate.mean
        if estimate.standard_error is not None:
            metrics[f"eval/{name}_se"] = estimate.standard_error
    return metrics


def _from_sums(alpha: float, n_rows: int, sums: defaultdict[str, float]) -> dict[str, float]:
    losses = {name: sums[f"{name}_loss"] / n_rows for name in ("hybrid", "classical", "quantum")}
    for name, loss in losses.items():
        if not loss < LARGEST_LOSS:
            raise TrainingError(
                f"the held-out {name} loss is {loss:g} nats per token: training has diverged; "
                "lower `learning_rate`"
            )
    metrics = {f"eval/{name}_loss": loss for name, loss in losses.items()}
    metrics |= {f"eval/perplexity_{name}": math.exp(loss) for name, loss in losses.items()}
    metrics["eval/hybrid_performance"] = hybrid_performance(
        sums["hybrid_entropy"] / n_rows, sums["classical_entropy"] / n_rows
    )
    metrics["eval/quantum_weight"] = 1 - alpha
    if sums["kl_tokens"]:
        metrics["eval/kl_to_teacher"] = sums["kl"] / sums["kl_tokens"]
        metrics["eval/kl_tokens"] = sums["kl_tokens"]
    metrics["eval/tokens"] = float(n_rows)
    metrics["model/alpha"] = alpha
    metrics["model/quantum_contribution"] = sums["quantum_covariance"] / sums["hybrid_variance"]
    return metrics
