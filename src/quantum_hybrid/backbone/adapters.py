"""Which weights of a backbone are trained: none, LoRA adapters, or all.

LoRA (Hu et al. 2021, arXiv:2106.09685) through the `peft` library, on every linear layer. An
adapter's update starts at zero, so the first hidden states equal those without adapters.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def adapt(
    body: PreTrainedModel, how: Literal["none", "lora", "full"], rank: int, seed: int
) -> nn.Module:
    """The body, in which only the parameters to be trained require gradients."""
    body.requires_grad_(how == "full")
    if how != "lora":
        return body
    linear = [m for m in body.named_modules() if isinstance(m[1], nn.Linear | Conv1D)]
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=sorted({name.rpartition(".")[2] for name, _ in linear}),
        lora_dropout=0.0,
        # GPT-2 stores its linear layers transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for _, module in linear),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers 5.23 for a property by its former name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        torch.manual_seed(seed)
        return get_peft_model(body, config)


def merge_adapters(backbone: nn.Module) -> nn.Module:
    """The body with the adapters' weights added to its own; without adapters, unchanged."""
    return backbone.merge_and_unload() if isinstance(backbone, PeftModel) else backbone
