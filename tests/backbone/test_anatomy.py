"""The parts of a base model reproduce its logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaModel

from quantum_hybrid.backbone import detach_final_norm, load_base_model, prepare_embedded
from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.errors import UsageError

TEXT = "To boil an egg, put it into cold water and wait for 6 minutes."


def assert_same_logits(base, reference, tokens) -> None:
    with torch.no_grad():
        expected = reference(input_ids=tokens).logits
        hidden = base.body(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(
            base.decoder(base.norm(hidden)), expected, rtol=1e-5, atol=1e-5 * expected.abs().max()
        )
        # Really before the norm: without it the logits are something else.
        assert (base.decoder(hidden) - expected).abs().max() > 0.1


def test_decoder_of_norm_of_hidden_states_is_the_embedded_model() -> None:
    folder = prepare_embedded(lambda _: None)
    base = load_base_model(EMBEDDED, str(folder))
    tokens = base.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert_same_logits(base, AutoModelForCausalLM.from_pretrained(folder), tokens)


@pytest.mark.parametrize("family", ["gpt2", "bloom", "gpt_neox", "phi", "qwen2", "mistral", "opt"])
def test_decoder_of_norm_of_hidden_states_is_any_other_base_model(family_folder, family) -> None:
    folder = family_folder(family)
    base = load_base_model(str(folder), str(folder))
    tokens = base.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert_same_logits(base, reference, tokens)


@pytest.mark.parametrize("family", ["gemma2", "granite"])
def test_a_model_that_scales_or_caps_its_logits_is_refused(family_folder, family) -> None:
    folder = str(family_folder(family))
    with pytest.raises(UsageError, match=r"its logits are not decoder\(norm\(hidden states\)\)"):
        load_base_model("that-one", folder)


def test_a_folder_that_holds_no_model_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"`base_model_name` 'mine': cannot be loaded: "):
        load_base_model("mine", str(tmp_path))


def test_a_loaded_model_is_float32_and_without_dropout(family_folder) -> None:
    folder = str(family_folder("gpt2"))
    base = load_base_model(folder, folder)
    assert {p.dtype for p in base.body.parameters()} == {torch.float32}
    dropouts = [module for module in base.body.modules() if isinstance(module, nn.Dropout)]
    assert dropouts
    assert not any(dropout.training for dropout in dropouts)


def test_detaching_the_norm_leaves_the_identity() -> None:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    body = LlamaModel(config)
    norm = body.norm
    assert detach_final_norm(body) is norm
    assert isinstance(body.norm, nn.Identity)


def test_a_body_without_a_known_final_norm_is_refused() -> None:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    body = LlamaModel(config)
    del body.norm
    with pytest.raises(UsageError, match="LlamaModel has no final norm called norm, ln_f"):
        detach_final_norm(body)
