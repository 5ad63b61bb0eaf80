"""The prompts written for this project, their split, and the order of training.

The split depends only on the SHA-256 of a prompt's text, so it is the same on every machine and for
every seed, and a prompt never moves to another part. The hash assigns 12 % to each held-out part on
average; the 344 prompts are split into

    train 77 % (264) | validation 14 % (49), for choosing settings | test 9 % (31), for reporting
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
"""Difference between the seeds of two epochs, so large that no epoch has the order of another
seed's epoch."""


def load_prompts() -> list[Prompt]:
    """All prompts, in the order of data/prompts.jsonl."""
    text = resources.files("quantum_hybrid.text").joinpath("data/prompts.jsonl").read_text("utf-8")
    return [Prompt(**json.loads(line)) for line in text.splitlines()]


def split_of(prompt_text: str) -> Split:
    """The part that a prompt belongs to, from the SHA-256 of its text."""
    digest = hashlib.sha256(prompt_text.encode("utf-8")).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < 0.12:
        return "test"
    return "validation" if fraction < 0.24 else "train"


def prompts_in(split: Split, seed: int) -> list[Prompt]:
    """The prompts of one part, shuffled with the seed."""
    chosen = [prompt for prompt in load_prompts() if split_of(prompt.text) == split]
    random.Random(seed).shuffle(chosen)
    return chosen


def training_schedule(seed: int, group_size: int) -> Iterator[tuple[Prompt, int]]:
    """Endless pairs (prompt, index of the group's first answer). Each epoch draws new answers."""
    epoch = 0
    while True:
        for prompt in prompts_in("train", seed + epoch * EPOCH_STRIDE):
            yield prompt, epoch * group_size
        epoch += 1


def held_out_prompts(split: Split, count: int, seed: int) -> list[Prompt]:
    """The first `count` prompts of a part, for evaluation. Raises `UsageError` if it has fewer."""
    prompts = prompts_in(split, seed)
    if count > len(prompts):
        raise UsageError(f"`eval_prompts` {count}: the {split} split has {len(prompts)} prompts")
    return prompts[:count]


class LeakageCheck:
    """Checks whether training answers equal held-out answers."""

    def __init__(self, held_out: Iterable[Answer]) -> None:
        self._held_out = {_normalised(answer.text) for answer in held_out}

    def leaks(self, answers: Iterable[Answer]) -> bool:
        """Whether any of these answers equals a held-out one, up to case and white space."""
        return any(_normalised(answer.text) in self._held_out for answer in answers)


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())
