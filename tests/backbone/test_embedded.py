"""The conversion of the embedded model: complete, reused, and not repeated."""

from __future__ import annotations

from transformers import AutoConfig

from quantum_hybrid.backbone import prepare_embedded


def test_a_converted_model_is_used_as_it_is() -> None:
    first = prepare_embedded()
    said: list[str] = []
    assert prepare_embedded(said.append) == first
    assert said == []


def test_it_is_the_model_that_the_documentation_speaks_of() -> None:
    config = AutoConfig.from_pretrained(prepare_embedded())
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49_152)
    assert getattr(config, "quantization_config", None) is None
