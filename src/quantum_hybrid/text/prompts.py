"""The prompts of a run, their split, and the order of training.

    prompts = built_in_prompts()
    held_out = prompts.held_out("test", 24, seed=0)
    for prompt, first_index in prompts.schedule(seed=0, group_size=4): ...

The split depends only on the SHA-256 of a prompt's text, so it is the same on every machine and for
every seed, and a prompt never moves to another part. The hash assigns 12 % to each held-out part on
average; the 344 built-in prompts, written for this project, are split into

    train 77 % (264) | validation 14 % (49), for choosing settings | test 9 % (31), for reporting
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Literal, get_args

from quantum_hybrid.errors import UsageError
from quantum_hybrid.shown import shown
from quantum_hybrid.text.records import Answer, Prompt

Split = Literal["train", "validation", "test"]
EPOCH_STRIDE = 1_000_003
"""Difference between the seeds of two epochs, so large that no epoch has the order of another
seed's epoch."""
CALIBRATION_PROMPTS = 64
"""Number of training prompts whose hidden states initialise the head: the last of the schedule. Up
to step 197 the training loss on the built-in prompts is then on prompts that neither pathway has
seen. Otherwise alpha, which is learned from this loss, would favour the calibrated pathway."""


def split_of(prompt_text: str) -> Split:
    """The part that a prompt belongs to, from the SHA-256 of its text."""
    digest = hashlib.sha256(prompt_text.encode("utf-8")).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    if fraction < 0.12:
        return "test"
    return "validation" if fraction < 0.24 else "train"


@dataclass(frozen=True)
class PromptSet:
    """The prompts that a run draws from."""

    prompts: tuple[Prompt, ...]
    """All prompts, in the order of their file."""
    file: str | None = None
    """Name of the file for messages; None for the built-in prompts."""

    def in_split(self, split: Split, seed: int) -> list[Prompt]:
        """The prompts of one part, shuffled with the seed."""
        chosen = [prompt for prompt in self.prompts if split_of(prompt.text) == split]
        random.Random(seed).shuffle(chosen)
        return chosen

    def schedule(self, seed: int, group_size: int) -> Iterator[tuple[Prompt, int]]:
        """Endless pairs (training prompt, index of the group's first answer).

        Each epoch draws new answers. Without a training prompt the iterator is empty.
        """
        epoch = 0
        while prompts := self.in_split("train", seed + epoch * EPOCH_STRIDE):
            for prompt in prompts:
                yield prompt, epoch * group_size
            epoch += 1

    def held_out(self, split: Split, count: int, seed: int) -> list[Prompt]:
        """The first `count` prompts of a part, for evaluation.

        Raises `UsageError` if the part has fewer.
        """
        prompts = self.in_split(split, seed)
        if count > len(prompts):
            of_file = "" if self.file is None else f" of {shown(self.file)}"
            raise UsageError(
                f"`eval_prompts` {count}: the {split} split{of_file} has {len(prompts)} prompts"
            )
        return prompts[:count]

    def calibration(self, seed: int) -> list[Prompt]:
        """The training prompts that initialise the head: the last `CALIBRATION_PROMPTS`.

        Raises `UsageError` if there are fewer.
        """
        prompts = self.in_split("train", seed)
        if len(prompts) < CALIBRATION_PROMPTS:
            raise UsageError(
                f"`prompts` {self.file!r}: the train split has {len(prompts)} prompts, and "
                f"{CALIBRATION_PROMPTS} are needed to initialise the head"
            )
        return prompts[-CALIBRATION_PROMPTS:]

    def sizes(self) -> dict[Split, int]:
        """Number of prompts in each part."""
        return {split: len(self.in_split(split, 0)) for split in get_args(Split)}

    def as_lines(self) -> bytes:
        """The prompts as lines of JSON, in ASCII."""
        return "".join(json.dumps(asdict(one)) + "\n" for one in self.prompts).encode("ascii")

    @classmethod
    def from_lines(cls, lines: bytes, file: str | None = None) -> PromptSet:
        """Inverse of `as_lines`. Raises `ValueError` or `TypeError` for other content."""
        rows = [json.loads(line) for line in lines.splitlines()]
        return cls(tuple(Prompt(**row) for row in rows), file)


def built_in_prompts() -> PromptSet:
    """The prompts of data/prompts.jsonl."""
    file = resources.files("quantum_hybrid.text").joinpath("data/prompts.jsonl")
    return PromptSet.from_lines(file.read_bytes())


class LeakageCheck:
    """Checks whether training answers equal held-out answers."""

    def __init__(self, held_out: Iterable[Answer]) -> None:
        self._held_out = {_normalised(answer.text) for answer in held_out}

    def leaks(self, answers: Iterable[Answer]) -> bool:
        """Whether any of these answers equals a held-out one, up to case and white space."""
        return any(_normalised(answer.text) in self._held_out for answer in answers)


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())
