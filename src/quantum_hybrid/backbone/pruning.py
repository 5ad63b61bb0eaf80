"""Depth pruning: drop a contiguous block of transformer layers and keep the last ones.

ShortGPT (Men et al. 2024, arXiv:2403.03853) and Gromov et al. 2024 (arXiv:2403.17887): middle
layers of a language model can be dropped at little cost if the rest is trained afterwards; the last
layers cannot.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from quantum_hybrid.errors import UsageError


def drop_layers(body: PreTrainedModel, dropped: range) -> None:
    """Drop these layers of a model body and its configuration, in place.

    Raises `UsageError` for layers that do not exist, for all layers, and for an architecture whose
    layers cannot be dropped.
    """
    if not dropped:
        return
    layers = _layer_list(body)
    setting = f"`drop_layers` {dropped.start}-{dropped.stop - 1}"
    if dropped.stop > len(layers) or len(dropped) >= len(layers):
        raise UsageError(
            f"{setting}: the backbone has layers 0 to {len(layers) - 1}; some must stay"
        )
    del layers[dropped.start : dropped.stop]
    # `generate` indexes its key/value cache by this number.
    for index, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", index)  # noqa: B010 - Module types forbid an int
    try:
        _drop_from_config(body, dropped, len(layers))
    except Exception as error:  # Each architecture raises its own kind of exception.
        raise UsageError(
            f"{setting}: layers of a {type(body).__name__} cannot be dropped; use none"
        ) from error


def _drop_from_config(body: PreTrainedModel, dropped: range, n_layers: int) -> None:
    config = body.config
    config.num_hidden_layers = n_layers
    if getattr(config, "layer_types", None):
        kept = list(config.layer_types)
        del kept[dropped.start : dropped.stop]
        config.layer_types = kept


def _layer_list(body: PreTrainedModel) -> nn.ModuleList:
    count = body.config.num_hidden_layers
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UsageError(f"`drop_layers`: {type(body).__name__} has no list of {count} layers")
