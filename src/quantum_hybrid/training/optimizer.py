"""Which parameters are trained, in four parts with a learning rate and a clipping norm each."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from quantum_hybrid.config import RunConfig
from quantum_hybrid.student import HybridForCausalLM

PARTS = ("backbone", "classical", "quantum", "alpha")


def part_of(name: str) -> str:
    """The part that a parameter of the student belongs to, by its name."""
    if name.startswith("backbone."):
        return "backbone"
    if name.startswith("head.classical."):
        return "classical"
    if name.startswith("head.quantum."):
        return "quantum"
    if name == "head.alpha_logit":
        return "alpha"
    raise ValueError(f"parameter {name} belongs to no part of the student")


def trainable_parts(student: HybridForCausalLM) -> dict[str, dict[str, nn.Parameter]]:
    """Part -> name -> parameter, of all parameters that require a gradient."""
    parts: dict[str, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            parts[part_of(name)][name] = parameter
    return parts


def build_optimizer(student: HybridForCausalLM, config: RunConfig) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019); weight decay on matrices only."""
    groups = []
    for part, parameters in trainable_parts(student).items():
        for decays in (True, False):
            chosen = [p for p in parameters.values() if (p.ndim >= 2 and part != "alpha") == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "part": part, "weight_decay": decay})
    return AdamW(groups, betas=(0.9, 0.95), fused=True)


def set_learning_rates(optimizer: AdamW, config: RunConfig, step: int) -> None:
    """The learning rates of one step: linear warm-up to each part's peak, then linearly to zero."""
    peak = {
        "backbone": config.backbone_learning_rate(),
        "classical": config.head_learning_rate,
        "quantum": config.quantum_learning_rate,
        "alpha": config.alpha_learning_rate,
    }
    factor = schedule_factor(step, config.total_steps, config.warmup_steps)
    for group in optimizer.param_groups:
        group["lr"] = factor * peak[group["part"]]


def schedule_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / (total_steps - warmup_steps))
