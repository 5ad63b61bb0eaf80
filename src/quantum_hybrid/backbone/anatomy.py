"""The parts of a causal language model: token ids -> body -> hidden states -> norm -> decoder.

Hidden states are the residual stream after the last layer and *before* the final norm, so that
`decoder(norm(h))` equals the base model's logits. `load_base_model` checks this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.errors import UsageError

FINAL_NORM_NAMES = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")
LOGIT_TOLERANCE = 1e-3


@dataclass
class BaseModel:
    """The parts of a loaded base model."""

    body: PreTrainedModel
    """Token ids -> hidden states (batch, positions, d_model), without the final norm."""
    norm: nn.Module
    """The final norm."""
    decoder: nn.Linear
    """The output embedding, d_model -> vocabulary."""
    tokenizer: PreTrainedTokenizerBase


def load_base_model(name: str, source: str) -> BaseModel:
    """Load a causal language model in float32 from a folder or a hub name.

    `source` is the folder or hub name, `name` the user's name for it in messages. Raises
    `UsageError` for a model that cannot be loaded or whose logits are not `decoder(norm(h))`.
    """
    if name == EMBEDDED:
        from quantum_hybrid.backbone.embedded import prepare_embedded

        prepare_embedded()
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"`base_model_name` {name!r}: cannot be loaded: {reason}") from error
    model.eval()
    decoder = model.get_output_embeddings()
    if not isinstance(decoder, nn.Linear):
        raise UsageError(f"`base_model_name` {name!r}: has no linear output embedding")
    tokens = torch.arange(8).unsqueeze(0) % decoder.out_features
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    body = cast(PreTrainedModel, model.base_model)
    norm = detach_final_norm(body)
    _check_logits(name, body, norm, decoder, tokens, expected)
    return BaseModel(body, norm, decoder, tokenizer)


def detach_final_norm(body: PreTrainedModel) -> nn.Module:
    """Replace the final norm of a model body by the identity and return the norm.

    Raises `UsageError` if there is none under a known name.
    """
    for owner in (body, getattr(body, "decoder", None)):
        for name in FINAL_NORM_NAMES:
            norm = getattr(owner, name, None)
            if isinstance(norm, nn.Module):
                setattr(owner, name, nn.Identity())
                return norm
    raise UsageError(
        f"`base_model_name`: {type(body).__name__} has no final norm called "
        + ", ".join(FINAL_NORM_NAMES)
    )


def _check_logits(
    name: str,
    body: PreTrainedModel,
    norm: nn.Module,
    decoder: nn.Linear,
    tokens: Tensor,
    expected: Tensor,
) -> None:
    with torch.no_grad():
        logits = decoder(norm(body(input_ids=tokens).last_hidden_state))
    if not torch.allclose(logits, expected, atol=LOGIT_TOLERANCE, rtol=LOGIT_TOLERANCE):
        raise UsageError(
            f"`base_model_name` {name!r}: its logits are not decoder(norm(hidden states)); "
            "models that scale or cap their logits are not supported"
        )
