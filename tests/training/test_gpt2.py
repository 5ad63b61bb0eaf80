"""A full-size GPT-2 with random weights: 768 -> 8 qubits -> 50,257 tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from quantum_hybrid.config import RunConfig
from quantum_hybrid.text.prompts import built_in_prompts
from quantum_hybrid.text.records import Answer
from quantum_hybrid.training import Learner


@pytest.fixture
def gpt2(bpe_tokenizer, tmp_path) -> Path:
    """A folder with GPT-2's configuration, as large as the real one, and a tokenizer."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(tmp_path)
    bpe_tokenizer(6000).save_pretrained(tmp_path)
    return tmp_path


def test_a_full_size_gpt2_takes_a_training_step(gpt2) -> None:
    few = built_in_prompts().calibration(0)[:8]  # 64 take 20 seconds more
    learner = Learner(RunConfig(base_model_name=str(gpt2)), few)
    model, quantum = learner.model, learner.model.head.quantum
    assert model.config.backbone["n_layer"] == 12
    assert quantum.down.weight.shape == (8, 768)
    assert quantum.circuit1.weights.shape == quantum.circuit2.weights.shape == (3, 8)
    assert quantum.up.weight.shape == (50_257, 8)
    assert model.head.classical.decoder.weight.shape == (50_257, 768)
    assert learner.vocabulary == 50_257
    prompt = built_in_prompts().in_split("train", 0)[0]
    answers = [Answer(prompt.id, i, f"Number {i}.", "stop", "m") for i in range(2)]
    examples = learner.encoder.examples(prompt, answers)
    before = quantum.circuit1.weights.detach().clone()
    result = learner.train_on(examples, 0)
    assert result.metrics["train/quantum_gradient_norm"] > 0
    assert result.n_tokens == sum(len(e.tokens) - e.n_context for e in examples)
    assert not torch.equal(quantum.circuit1.weights, before)
    logits = model(torch.tensor([examples[0].tokens])).logits
    assert logits.shape == (1, len(examples[0].tokens), 50_257)
