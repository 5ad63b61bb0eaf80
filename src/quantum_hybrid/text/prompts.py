"""The prompts written for this project, their split, and the order in which they are trained on.

The split is a function of the prompt's text alone (SHA-256), so it is the same on every machine
and for every seed, and a prompt can never move from one part to another:

    train 76 % | validation 12 % (for choosing settings) | test 12 % (for reporting)
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Literal

from quantum_hybrid.errors import UsageError
from quantum_hybrid.text.records import Answer, Prompt

Split = Literal["train", "validation", "test"]
EPOCH_STRIDE = 1_000_003
"""Between the seeds of two epochs, so that no epoch has the order of another seed's epoch."""


def load_prompts() -> list[Prompt]:
    """The prompts written for this project, in the order of their file."""
    text = resources.files("quantum_hybrid.text").joinpath("data/prompts.jsonl").read_text("utf-8")
    return [Prompt(**json.loads(line)) for line in text.splitlines()]


def split_of(prompt_text: str) -> Split:
    """Which part of the corpus a prompt belongs to, by the SHA-256 of its text."""
    digest = hashlib.sha256(prompt_text.encode("utf-8")).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < 0.12:
        return "test"
    return "validation" if fraction < 0.24 else "train"


def prompts_in(split: Split, seed: int) -> list[Prompt]:
    """The prompts of one part, in an order drawn with the seed."""
    chosen = [prompt for prompt in load_prompts() if split_of(prompt.text) == split]
    random.Random(seed).shuffle(chosen)
    return chosen


def training_schedule(seed: int, group_size: int) -> Iterator[tuple[Prompt, int]]:
    """Endless (prompt, index of the group's first answer); a second epoch draws new answers."""
    epoch = 0
    while True:
        for prompt in prompts_in("train", seed + epoch * EPOCH_STRIDE):
            yield prompt, epoch * group_size
        epoch += 1


def held_out_prompts(split: Split, count: int, seed: int) -> list[Prompt]:
    """The prompts that a run evaluates on. Raises `UsageError` when there are not so many."""
    prompts = prompts_in(split, seed)
    if count > len(prompts):
        raise UsageError(f"`eval_prompts` {count}: the {split} split has {len(prompts)} prompts")
    return prompts[:count]


class LeakageCheck:
    """Knows the held-out answers, and tells whether a training answer is one of them."""

    def __init__(self, held_out: Iterable[Answer]) -> None:
        self._held_out = {_normalised(answer.text) for answer in held_out}

    def leaks(self, answers: Iterable[Answer]) -> bool:
        """True if any of these answers is a held-out answer, but for case and white space."""
        return any(_normalised(answer.text) in self._held_out for answer in answers)


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())
