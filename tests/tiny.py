"""A real but tiny base model, made on the spot: random weights, the embedded model's tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from quantum_hybrid.backbone import prepare_embedded

D_MODEL, N_LAYERS = 32, 4


def save_tiny_llama(folder: Path) -> Path:
    """Save a 4-layer Llama of width 32 with the embedded model's 49,152-token vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(prepare_embedded())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
