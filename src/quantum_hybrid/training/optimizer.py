"""Which parameters are trained, in four parts with a learning rate and a clipping norm each.

Matrices of the head that read a hidden state have the learning rate of their part divided by
their fan-in d: an update of AdamW moves every weight by about the learning rate, hence what the
matrix puts out by d times as much. At 1e-2 and d = 576 the encoding angles would be thrown about
the circle anew at each step. The scaling is that of Yang et al. 2022 (arXiv:2203.03466); what
happens without it is in docs/log.md.
"""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from quantum_hybrid.config import RunConfig
from quantum_hybrid.student import HybridForCausalLM

LOG_SCALE_FACTOR = 10.0
"""Learning rate of the classical pathway's one scale, relative to that of its other parameters."""
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
    """AdamW (Loshchilov & Hutter 2019).

    Weight decay is for the matrices of the backbone and of the classical pathway: a circuit's
    weights are angles, for which zero is no preferred size.
    """
    groups = []
    d_model = student.head.quantum.down.in_features
    for part, parameters in trainable_parts(student).items():
        for parameter in parameters.values():
            is_matrix = parameter.ndim == 2
            reads_hidden_state = part != "backbone" and is_matrix and parameter.shape[1] == d_model
            decays = is_matrix and part in ("backbone", "classical")
            scale = 1 / d_model if reads_hidden_state else 1.0
            if parameter is student.head.classical.log_scale:
                scale = LOG_SCALE_FACTOR
            groups.append(
                {
                    "params": [parameter],
                    "part": part,
                    "weight_decay": config.weight_decay if decays else 0.0,
                    "scale": scale,
                }
            )
    return AdamW(groups, betas=(0.9, 0.95))


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
        group["lr"] = factor * peak[group["part"]] * group["scale"]


def schedule_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return 0.0
    return (total_steps - step) / (total_steps - warmup_steps)
