"""Real but tiny base models, made on the spot: random weights, real tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.text.prompts import built_in_prompts

D_MODEL, N_LAYERS = 32, 4
END_OF_TEXT = "<|endoftext|>"


def save_tiny_llama(folder: Path) -> Path:
    """Save a 4-layer Llama of width 32 with the embedded model's 49,152-token vocabulary."""
    return _save_llama(folder, AutoTokenizer.from_pretrained(prepare_embedded()))


def save_small_llama(folder: Path) -> Path:
    """The same with 512 tokens and no chat template, which trains fast."""
    return _save_llama(folder, byte_level_tokenizer(512))


def byte_level_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, as GPT-2's, trained on the prompts of this project."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([prompt.text for prompt in built_in_prompts().prompts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def _save_llama(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=cast(int, tokenizer.bos_token_id),
        eos_token_id=cast(int, tokenizer.eos_token_id),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_family(folder: Path, model_type: str) -> Path:
    """A 3-layer model of width 32 of another family, with 512 tokens."""
    tokenizer = byte_level_tokenizer(512)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **_FAMILIES[model_type],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_USUAL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
_FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.3},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.3},
    "gpt_neox": _USUAL,
    "phi": _USUAL,
    "qwen2": _USUAL | {"num_key_value_heads": 2},
    "mistral": _USUAL | {"num_key_value_heads": 2, "sliding_window": 6},
    "gemma2": _USUAL | {"num_key_value_heads": 2, "head_dim": 8},
    "granite": _USUAL | {"num_key_value_heads": 2, "logits_scaling": 2.0},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 256,
        "init_std": 0.3,
    },
}
