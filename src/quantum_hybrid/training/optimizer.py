"""The trained parameters in four parts, each with its own learning rate and clipping norm.

Matrices of the head that read a hidden state have the learning rate of their part divided by their
fan-in d. AdamW moves every weight by about the learning rate, which moves an output of the matrix
by up to d times as much. At a rate of 1e-2 and d = 576 the encoding angles would move around the
whole circle at each step. The scaling is that of Yang et al. 2022 (arXiv:2203.03466); docs/log.md
has the results without it.

Alpha is not updated by AdamW. The gradient of its logit a is alpha (1 - alpha) dL/dalpha, which
almost vanishes near 0 and 1. AdamW would still divide it by the large gradients of the first steps,
so alpha would stay where those steps had moved it. Instead alpha is updated by exponentiated
gradient (Kivinen & Warmuth 1997, doi:10.1006/inco.1996.2612): the weights (alpha, 1 - alpha) are
multiplied by exp(-rate dL/dweight) and divided by their sum, which is

    a <- a - rate dL/dalpha.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from quantum_hybrid.config import RunConfig
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.student import HybridForCausalLM, HybridHead

LOG_SCALE_FACTOR = 10.0
"""Learning rate of the classical pathway's one scale, relative to that of its other parameters."""
LARGEST_ALPHA_LOGIT = 10.0
"""Bound on |a|: alpha stays in [5e-5, 1 - 5e-5]. Beyond it float32 rounds alpha (1 - alpha) too
coarsely."""
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
    """Part -> name -> parameter, for all parameters that require a gradient."""
    parts: dict[str, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            parts[part_of(name)][name] = parameter
    return parts


def build_optimizer(student: HybridForCausalLM, config: RunConfig) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) for all parameters except alpha.

    Weight decay applies to the matrices of the backbone and the classical pathway. The weights of a
    circuit are angles, for which zero is not a preferred value.
    """
    groups = []
    head = student.head
    d_model = head.quantum.down.in_features
    reading_hidden_states = {
        head.quantum.down.weight,
        head.classical.transform.into.weight,
        head.classical.transform.out.weight,
        head.classical.decoder.weight,
    }
    for part, parameters in trainable_parts(student).items():
        for parameter in parameters.values():
            if parameter is head.alpha_logit:
                continue
            decays = parameter.ndim == 2 and part in ("backbone", "classical")
            scale = 1 / d_model if parameter in reading_hidden_states else 1.0
            if parameter is head.classical.log_scale:
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


def update(student: HybridForCausalLM, optimizer: AdamW, config: RunConfig, step: int) -> None:
    """Update every trainable parameter once, by its clipped gradient. `step` counts from 0."""
    set_learning_rates(optimizer, config, step)
    clip_gradients(student, config.max_grad_norm)
    optimizer.step()
    factor = schedule_factor(step, config.total_steps, config.warmup_steps)
    step_alpha(student.head, factor * config.alpha_learning_rate, config.max_grad_norm)


@torch.no_grad()
def step_alpha(head: HybridHead, rate: float, max_norm: float) -> None:
    """One step of exponentiated gradient, with dL/dalpha clipped to [-max_norm, max_norm]."""
    a = head.alpha_logit
    if a.grad is None:
        raise TrainingError("alpha has no gradient: the objective does not reach the mixture")
    gradient = (a.grad / (torch.sigmoid(a) * torch.sigmoid(-a))).clamp(-max_norm, max_norm)
    a.sub_(rate * gradient).clamp_(-LARGEST_ALPHA_LOGIT, LARGEST_ALPHA_LOGIT)


def set_learning_rates(optimizer: AdamW, config: RunConfig, step: int) -> None:
    """Set a step's learning rates: linear warm-up to each part's peak, then linear decay to 0."""
    peak = {
        "backbone": config.backbone_learning_rate(),
        "classical": config.head_learning_rate,
        "quantum": config.quantum_learning_rate,
    }
    factor = schedule_factor(step, config.total_steps, config.warmup_steps)
    for group in optimizer.param_groups:
        group["lr"] = factor * peak[group["part"]] * group["scale"]


def clip_gradients(student: HybridForCausalLM, max_norm: float) -> None:
    """Clip each part separately, so that a large gradient of one part does not slow the others.

    Alpha's gradient is only checked here; `step_alpha` clips dL/dalpha. Raises `TrainingError` for
    a gradient that is not finite.
    """
    for part, parameters in trainable_parts(student).items():
        present: list[Tensor] = list(parameters.values())
        largest = math.inf if part == "alpha" else max_norm
        norm = nn.utils.clip_grad_norm_(present, largest).item()
        if not math.isfinite(norm):
            raise TrainingError(
                f"the gradient of the {part} has norm {norm}: training has diverged; "
                "lower `learning_rate`"
            )


def schedule_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Learning rate at a step, counted from 0, as a fraction of the peak, in [0, 1]."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return 0.0
    return (total_steps - step) / (total_steps - warmup_steps)
