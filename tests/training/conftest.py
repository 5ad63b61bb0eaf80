"""A quick learner: a real run's configuration on a 4-layer backbone with 512 tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantum_hybrid.config import RunConfig
from quantum_hybrid.corpus import Example, prompts_in
from quantum_hybrid.records import Answer
from quantum_hybrid.training import Learner


@pytest.fixture(scope="session")
def new_learner(small_llama: Path) -> Callable[..., Learner]:
    """Builds a learner for given `RunConfig` values."""

    def build(**values: Any) -> Learner:
        given = {"base_model_name": str(small_llama), "total_steps": 20, "lora_rank": 4} | values
        return Learner(RunConfig(**given))

    return build


@pytest.fixture(scope="session")
def groups(new_learner: Callable[..., Learner]) -> list[list[Example]]:
    """Four groups of two answers, in the order of a schedule."""
    encoder = new_learner(train_backbone="none").encoder
    texts = ("Yes, of course.", "No! Not before Monday.", "Six minutes", "It depends on the egg.")
    return [
        encoder.examples(
            prompt,
            [Answer(prompt.id, i, texts[(n + i) % 4], "stop", "m") for i in range(2)],
        )
        for n, prompt in enumerate(prompts_in("train", 0)[:4])
    ]
