"""Adapters: which parameters are trained, the identity at the start, and merging."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from quantum_hybrid.backbone import adapt, load_base_model, merge_adapters, prepare_embedded
from quantum_hybrid.config import EMBEDDED

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def hidden_states(body) -> torch.Tensor:
    with torch.no_grad():
        return body(input_ids=TOKENS, use_cache=False).last_hidden_state


def perturb(body) -> None:
    """Set those adapter matrices that start at zero to random values."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in body.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=generator)


@pytest.fixture
def new_body(family_folder) -> Callable[[str], PreTrainedModel]:
    def load(family: str) -> PreTrainedModel:
        folder = str(family_folder(family))
        return load_base_model(folder, folder).body

    return load


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "phi", "bloom"])
def test_adapters_start_as_the_identity_and_merge_into_the_same_model(new_body, family) -> None:
    body = new_body(family)
    before = hidden_states(body)
    adapted = adapt(body, "lora", 4, 0)
    torch.testing.assert_close(hidden_states(adapted), before, rtol=0, atol=1e-6)
    perturb(adapted)
    moved = hidden_states(adapted)
    assert (moved - before).abs().max() > 0.1
    merged = merge_adapters(adapted)
    assert not isinstance(merged, PeftModel)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(hidden_states(merged), moved, rtol=1e-4, atol=1e-4)


def test_the_embedded_model_merges_into_the_same_model() -> None:
    base = load_base_model(EMBEDDED, str(prepare_embedded()))

    def seen_by_the_head(body) -> torch.Tensor:
        # Normed: the first position's hidden state is a hundred times larger than the others.
        with torch.no_grad():
            return base.norm(hidden_states(body))

    before = seen_by_the_head(base.body)
    adapted = adapt(base.body, "lora", 16, 0)
    torch.testing.assert_close(seen_by_the_head(adapted), before, rtol=1e-4, atol=1e-4)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(2e-3)
    moved = seen_by_the_head(adapted)
    assert (moved - before).abs().max() > 0.1
    merged = seen_by_the_head(merge_adapters(adapted))
    error = (merged - moved).norm(dim=-1) / moved.norm(dim=-1)
    assert error.max() < 1e-4


def test_every_linear_layer_of_every_block_gets_an_adapter(new_body) -> None:
    adapted = adapt(new_body("qwen2"), "lora", 4, 0)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    for index in range(3):
        for layer in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            found = [n for n in trained if f"layers.{index}." in n and f".{layer}." in n]
            assert len(found) == 2


@pytest.mark.parametrize(("how", "share"), [("none", 0), ("full", 1)])
def test_none_and_full_train_nothing_and_everything(new_body, how, share) -> None:
    body = new_body("gpt2")
    adapted = adapt(body, how, 4, 0)
    assert adapted is body
    flags = [p.requires_grad for p in adapted.parameters()]
    assert sum(flags) == share * len(flags)
    assert merge_adapters(adapted) is body


def test_adapters_are_drawn_with_their_seed_alone(new_body) -> None:
    def first_halves(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        adapted = adapt(new_body("qwen2"), "lora", 4, seed)
        chosen = [p.flatten() for name, p in adapted.named_parameters() if "lora_A" in name]
        return torch.cat(chosen)

    assert torch.equal(first_halves(0, 1), first_halves(0, 2))
    assert not torch.equal(first_halves(0, 1), first_halves(1, 1))


def test_drawing_adapters_leaves_the_global_generator_alone(new_body) -> None:
    body = new_body("qwen2")
    before = torch.random.get_rng_state()
    adapt(body, "lora", 4, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
