"""The summary of a run: its first and last held-out evaluation, and the teacher's account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantum_hybrid.errors import CheckpointError

ROWS = (
    ("hybrid loss", "eval/hybrid_loss", "nats per token"),
    ("classical loss", "eval/classical_loss", "nats per token"),
    ("quantum loss", "eval/quantum_loss", "nats per token"),
    ("hybrid perplexity", "eval/perplexity_hybrid", ""),
    ("classical perplexity", "eval/perplexity_classical", ""),
    ("quantum perplexity", "eval/perplexity_quantum", ""),
    ("KL to the teacher", "eval/kl_to_teacher", "nats per token"),
    ("alpha", "model/alpha", "1 is fully classical"),
    ("quantum share of variance", "model/quantum_contribution", ""),
    ("quantum ablation", "eval/quantum_ablation", "nats per token"),
    ("  its standard error", "eval/quantum_ablation_se", ""),
    ("hybrid minus classical", "eval/hybrid_minus_classical", "nats per token"),
    ("  its standard error", "eval/hybrid_minus_classical_se", ""),
)

UNUSED = 1e-3
"""Quantum weight 1 - alpha below which the summary says that the pathway is unused."""


def summarise(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """First and last held-out figures of a run, from the rows of its metrics.jsonl.

    Raises `CheckpointError` if the rows hold no held-out evaluation.
    """
    evaluations = [row for row in metrics if "eval/hybrid_loss" in row]
    if not evaluations:
        raise CheckpointError("metrics.jsonl holds no held-out evaluation")
    first, last = evaluations[0], evaluations[-1]
    names = [name for _, name, _ in ROWS]
    return {
        "first_step": first["step"],
        "last_step": last["step"],
        "held_out_tokens": last["eval/tokens"],
        "first": {name: first[name] for name in names if name in first},
        "last": {name: last[name] for name in names if name in last},
    }


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines of the summary table, followed by its interpretation."""
    first, last = summary["first"], summary["last"]
    lines = [f"{'held out':28}{'step ' + str(summary['first_step']):>12}"]
    lines[0] += f"{'step ' + str(summary['last_step']):>12}"
    for label, name, unit in ROWS:
        if name in last:
            lines.append(f"{label:28}{first[name]:12.4f}{last[name]:12.4f}  {unit}".rstrip())
    return [*lines, "", *_verdict(last)]


def teacher_lines(teacher: Mapping[str, Any]) -> list[str]:
    """The lines of the teacher's account: answers, tokens, cost and faults."""
    lines = [
        f"teacher   {teacher['answers']} answers in {teacher['requests']} requests "
        f"({teacher['retries']} of them retries), {teacher['answers_from_cache']} from the cache",
        f"          {teacher['cut_at_length']} answers cut at the maximum length; tokens: "
        f"{teacher['prompt_tokens']} read, {teacher['completion_tokens']} written",
    ]
    if teacher["cost"] or teacher["unknown_cost"]:
        unknown = teacher["unknown_cost"]
        more = f", at most {unknown:.6g} more for replies that were not read" if unknown else ""
        lines.append(f"          cost {teacher['cost']:.6g}{more}")
    if teacher["faults"]:
        counts = ", ".join(f"{kind} {count}" for kind, count in teacher["faults"].items())
        lines.append(f"          faults: {counts}")
    by_teacher = teacher["answers_by_teacher"]
    if len(by_teacher) > 1:
        lines += [f"          {count} by {name}" for name, count in by_teacher.items()]
    return lines


def _verdict(last: Mapping[str, float]) -> list[str]:
    weight = 1 - last["model/alpha"]
    unused = [
        f"Alpha gives the quantum pathway a weight of {weight:.0e}: the hybrid hardly uses it."
    ]
    errors = "Errors are one standard error over held-out answers."
    if "eval/quantum_ablation_se" not in last:
        errors = "One held-out answer gives no standard error."
    return [
        "The quantum pathway was worth "
        f"{_with_error(last, 'eval/quantum_ablation')} nats per token (held-out loss",
        "without it minus with it). The hybrid's loss minus its classical pathway's is",
        f"{_with_error(last, 'eval/hybrid_minus_classical')}. {errors}",
        *(unused if weight < UNUSED else []),
        "One run without separately trained rivals says nothing about quantum advantage.",
    ]


def _with_error(last: Mapping[str, float], name: str) -> str:
    error = last.get(f"{name}_se")
    return f"{last[name]:+.4f}" + ("" if error is None else f" +- {error:.4f}")
