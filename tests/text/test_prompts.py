"""Prompts, their split, the schedule, and the check for held-out answers."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from quantum_hybrid.errors import UsageError
from quantum_hybrid.text.prompts import (
    LeakageCheck,
    held_out_prompts,
    load_prompts,
    prompts_in,
    split_of,
    training_schedule,
)
from quantum_hybrid.text.records import Answer

SPLITS = ("train", "validation", "test")


def answer(text: str) -> Answer:
    return Answer("x1", 0, text, "length", "m")


def test_the_prompts_are_many_and_no_two_are_the_same() -> None:
    prompts = load_prompts()
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
    prompts = load_prompts()
    assert len(prompts_in("train", 0)) / len(prompts) == pytest.approx(0.76, abs=0.06)


@pytest.mark.parametrize("seed", [0, 7])
def test_every_prompt_is_in_exactly_one_part_whatever_the_seed(seed) -> None:
    parts = [{prompt.text for prompt in prompts_in(split, seed)} for split in SPLITS]
    assert sum(map(len, parts)) == len(load_prompts())
    assert set.union(*parts) == {prompt.text for prompt in load_prompts()}


def test_the_seed_draws_the_order() -> None:
    assert prompts_in("train", 3) == prompts_in("train", 3)
    assert prompts_in("train", 3) != prompts_in("train", 4)


def test_held_out_prompts_are_as_many_as_asked_for_or_an_error() -> None:
    available = prompts_in("test", 5)
    assert held_out_prompts("test", 3, 5) == available[:3]
    assert held_out_prompts("test", len(available), 5) == available
    with pytest.raises(UsageError, match=f"`eval_prompts` 999: .* {len(available)} prompts"):
        held_out_prompts("test", 999, 5)


def test_a_second_epoch_asks_for_new_answers_to_the_same_prompts() -> None:
    texts = {prompt.text for prompt in prompts_in("train", 0)}
    epochs = [
        list(islice(training_schedule(0, 4), epoch * len(texts), (epoch + 1) * len(texts)))
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
