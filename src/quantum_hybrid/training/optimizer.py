"""Which parameters are trained, in four parts with a learning rate and a clipping norm each.

Matrices of the head that read a hidden state have the learning rate of their part divided by
their fan-in d: an update of AdamW moves every weight by about the learning rate, hence what the
matrix puts out by d times as much. At 1e-2 and d = 576 the encoding angles would be thrown about
the circle anew at each step. The scaling is that of Yang et al. 2022 (arXiv:2203.03466); what
happens without it is in docs/log.md.

Alpha is not AdamW's. The gradient of its logit a is alpha (1 - alpha) dL/dalpha, which all but
vanishes near 0 and 1, where AdamW would moreover still divide it by the large gradients of the
first steps: alpha would end where these had thrown it, the further the larger its learning rate. It
takes steps of exponentiated gradient (Kivinen & Warmuth 1997, doi:10.1006/inco.1996.2612) instead:
the weights (alpha, 1 - alpha) are multiplied by exp(-rate dL/dweight) and then divided by their
sum, which is

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
"""alpha stays between 5e-5 and 1 - 5e-5: beyond, alpha (1 - alpha) drowns in float32's rounding."""
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
    """AdamW (Loshchilov & Hutter 2019) for everything but alpha.

    Weight decay is for the matrices of the backbone and of the classical pathway: a circuit's
    weights are angles, for which zero is no preferred size.
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
    """Move every trainable parameter once, along its clipped gradient."""
    set_learning_rates(optimizer, config, step)
    clip_gradients(student, config.max_grad_norm)
    optimizer.step()
    factor = schedule_factor(step, config.total_steps, config.warmup_steps)
    step_alpha(student.head, factor * config.alpha_learning_rate, config.max_grad_norm)


@torch.no_grad()
def step_alpha(head: HybridHead, rate: float, max_norm: float) -> None:
    """One step of exponentiated gradient, dL/dalpha being clipped to +-max_norm."""
    a = head.alpha_logit
    if a.grad is None:
        raise TrainingError("alpha has no gradient: the objective does not reach the mixture")
    gradient = (a.grad / (torch.sigmoid(a) * torch.sigmoid(-a))).clamp(-max_norm, max_norm)
    a.sub_(rate * gradient).clamp_(-LARGEST_ALPHA_LOGIT, LARGEST_ALPHA_LOGIT)


def set_learning_rates(optimizer: AdamW, config: RunConfig, step: int) -> None:
    """The learning rates of one step: linear warm-up to each part's peak, then linearly to zero."""
    peak = {
        "backbone": config.backbone_learning_rate(),
        "classical": config.head_learning_rate,
        "quantum": config.quantum_learning_rate,
    }
    factor = schedule_factor(step, config.total_steps, config.warmup_steps)
    for group in optimizer.param_groups:
        group["lr"] = factor * peak[group["part"]] * group["scale"]


def clip_gradients(student: HybridForCausalLM, max_norm: float) -> None:
    """Each part by itself: one part's large gradient must not slow the others down.

    Alpha's is only checked here; `step_alpha` clips dL/dalpha.
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
    """Share of the peak learning rate at a step, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return 0.0
    return (total_steps - step) / (total_steps - warmup_steps)
