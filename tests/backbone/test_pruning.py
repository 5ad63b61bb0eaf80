"""Depth pruning drops exactly the named layers and leaves the others unchanged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaAttention

from quantum_hybrid.backbone import drop_layers, load_base_model, prepare_embedded
from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.errors import UsageError


def llama(n_layers: int) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    return LlamaModel(config).eval()


class Passed(nn.Module):
    """A layer replaced by the identity."""

    def forward(self, hidden_states, **kwargs):
        return hidden_states


def test_the_embedded_model_keeps_the_other_layers_unchanged() -> None:
    body = load_base_model(EMBEDDED, str(prepare_embedded())).body
    assert isinstance(body, LlamaModel)
    before = [list(layer.parameters()) for layer in body.layers]
    drop_layers(body, range(11, 21))
    assert [list(layer.parameters()) for layer in body.layers] == before[:11] + before[21:]
    attentions = [m for m in body.modules() if isinstance(m, LlamaAttention)]
    assert [attention.layer_idx for attention in attentions] == list(range(20))
    assert body.config.num_hidden_layers == 20


@pytest.mark.parametrize("dropped", [range(0, 1), range(2, 4), range(4, 6), range(1, 6)])
def test_the_output_is_that_of_jumping_over_the_layers(dropped) -> None:
    body, tokens = llama(6), torch.tensor([[3, 1, 4, 1, 5]])
    reference = copy.deepcopy(body)
    for index in dropped:
        reference.layers[index] = Passed()
    whole = body(tokens).last_hidden_state
    drop_layers(body, dropped)
    with torch.no_grad():
        expected = reference(tokens, use_cache=False).last_hidden_state
        torch.testing.assert_close(body(tokens, use_cache=False).last_hidden_state, expected)
        # The cache addresses layers by their number: those must have been counted anew.
        torch.testing.assert_close(body(tokens, use_cache=True).last_hidden_state, expected)
    assert not torch.allclose(expected, whole)


@pytest.mark.parametrize("family", ["gpt2", "bloom", "gpt_neox", "phi", "qwen2", "mistral", "opt"])
def test_every_family_can_be_pruned(family_folder, family) -> None:
    folder = str(family_folder(family))
    body = load_base_model(folder, folder).body
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        states = body(tokens, output_hidden_states=True).hidden_states
        drop_layers(body, range(2, 3))
        pruned = body(tokens, use_cache=False).last_hidden_state
    assert body.config.num_hidden_layers == 2
    torch.testing.assert_close(pruned, states[2])


def test_nothing_to_drop_changes_nothing() -> None:
    body = llama(3)
    drop_layers(body, range(0))
    assert len(body.layers) == body.config.num_hidden_layers == 3


@pytest.mark.parametrize("dropped", [range(2, 4), range(3, 4), range(30, 31), range(0, 3)])
def test_layers_that_are_not_there_or_all_layers_are_an_error(dropped) -> None:
    body = llama(3)
    message = f"`drop_layers` {dropped.start}-{dropped.stop - 1}: .* layers 0 to 2"
    with pytest.raises(UsageError, match=message):
        drop_layers(body, dropped)
    assert len(body.layers) == body.config.num_hidden_layers == 3
