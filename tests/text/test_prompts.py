"""Prompts, their split, the schedule, and the check for held-out answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import pytest

from quantum_hybrid.errors import UsageError
from quantum_hybrid.text.duplicates import NearDuplicates
from quantum_hybrid.text.prompts import (
    LeakageCheck,
    PromptSet,
    built_in_prompts,
    split_of,
)
from quantum_hybrid.text.records import Answer, Prompt

PROMPTS = built_in_prompts()
SPLITS = ("train", "validation", "test")


def answer(text: str) -> Answer:
    return Answer("x1", 0, text, "length", "m")


def test_the_prompts_are_many_and_no_two_are_the_same() -> None:
    prompts = PROMPTS.prompts
    assert len(prompts) >= 300
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({" ".join(prompt.text.lower().split()) for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert prompt.id
        assert prompt.category
        assert prompt.text == prompt.text.strip() != ""


@pytest.mark.parametrize(
    ("text", "split"),
    [
        # sha256sum's first 16 hex digits over 2**64: 0.8894, 0.0676, 0.1469, 0.2392, 0.7077
        ("", "train"),
        ("What is the capital of France?", "test"),
        ("prompt 2", "validation"),
        ("naïve café ☕", "validation"),
        ("prompt 3", "train"),
    ],
)
def test_the_split_of_a_text_never_changes(text, split) -> None:
    assert split_of(text) == split


def test_the_shares_are_76_12_12() -> None:
    counts = Counter(split_of(f"text {i}") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.76, abs=0.01)
    assert counts["validation"] / 20_000 == pytest.approx(0.12, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.12, abs=0.01)
    prompts = PROMPTS.prompts
    assert len(PROMPTS.in_split("train", 0)) / len(prompts) == pytest.approx(0.76, abs=0.06)


@pytest.mark.parametrize("seed", [0, 7])
def test_every_prompt_is_in_exactly_one_part_whatever_the_seed(seed) -> None:
    parts = [{prompt.text for prompt in PROMPTS.in_split(split, seed)} for split in SPLITS]
    assert sum(map(len, parts)) == len(PROMPTS.prompts)
    assert set.union(*parts) == {prompt.text for prompt in PROMPTS.prompts}


def test_the_seed_draws_the_order() -> None:
    assert PROMPTS.in_split("train", 3) == PROMPTS.in_split("train", 3)
    assert PROMPTS.in_split("train", 3) != PROMPTS.in_split("train", 4)


def test_held_out_prompts_are_as_many_as_asked_for_or_an_error() -> None:
    available = PROMPTS.in_split("test", 5)
    assert PROMPTS.held_out("test", 3, 5) == available[:3]
    assert PROMPTS.held_out("test", len(available), 5) == available
    with pytest.raises(UsageError, match=f"`eval_prompts` 999: .* {len(available)} prompts"):
        PROMPTS.held_out("test", 999, 5)


def digest(prompts: Iterable[Prompt]) -> str:
    ids = " ".join(prompt.id for prompt in prompts)
    return hashlib.sha256(ids.encode("ascii")).hexdigest()[:16]


def test_the_order_of_the_built_in_prompts_never_changes() -> None:
    """Every published figure comes from this order."""
    assert digest(PROMPTS.held_out("test", 24, 0)) == "233c12fdbe761558"
    assert digest(PROMPTS.calibration(0)) == "f22262d005d0b5df"
    schedule = islice(PROMPTS.schedule(0, 4), 600)
    assert digest(prompt for prompt, _ in schedule) == "c702926c5dd3cea2"


def test_no_built_in_prompt_is_a_near_duplicate_of_another() -> None:
    seen = NearDuplicates()
    assert [prompt.id for prompt in PROMPTS.prompts if seen.add(prompt.text) is not None] == []


def test_the_head_is_calibrated_on_the_training_prompts_that_come_last() -> None:
    schedule = [prompt for prompt, _ in islice(PROMPTS.schedule(2, 4), PROMPTS.sizes()["train"])]
    assert PROMPTS.calibration(2) == schedule[-64:]


def test_a_file_of_too_few_prompts_is_named() -> None:
    few = PromptSet(PROMPTS.prompts[:40], "my file")
    n_train, n_test = few.sizes()["train"], few.sizes()["test"]
    with pytest.raises(UsageError, match=f"^`prompts` 'my file': the train split has {n_train} "):
        few.calibration(0)
    with pytest.raises(
        UsageError, match=f"^`eval_prompts` 24: the test split of my file has {n_test} prompts"
    ):
        few.held_out("test", 24, 0)


def test_without_training_prompts_the_schedule_is_empty() -> None:
    assert list(PromptSet(()).schedule(0, 4)) == []


def test_prompts_are_read_as_they_were_written() -> None:
    odd = (Prompt("ü", "c", "Why?\nTwo lines\u2028or three, ☕?"), Prompt("b", "", "No."))
    lines = PromptSet(odd).as_lines()
    assert lines.isascii()
    assert lines.count(b"\n") == 2
    assert PromptSet.from_lines(lines, "f") == PromptSet(odd, "f")


def test_a_second_epoch_asks_for_new_answers_to_the_same_prompts() -> None:
    texts = {prompt.text for prompt in PROMPTS.in_split("train", 0)}
    epochs = [
        list(islice(PROMPTS.schedule(0, 4), epoch * len(texts), (epoch + 1) * len(texts)))
        for epoch in range(3)
    ]
    for epoch, groups in enumerate(epochs):
        assert {prompt.text for prompt, _ in groups} == texts
        assert {first for _, first in groups} == {4 * epoch}
    assert [p.id for p, _ in epochs[0]] != [p.id for p, _ in epochs[1]]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Boil it for six minutes.", True),
        ("boil  it\nfor SIX minutes. ", True),
        ("Boil it for seven minutes.", False),
        ("Boil it for six minutes", False),
    ],
)
def test_a_held_out_answer_is_recognised(text, leaks) -> None:
    check = LeakageCheck([answer("Boil it for six minutes."), answer("Another one.")])
    assert check.leaks([answer("quite different"), answer(text)]) is leaks
