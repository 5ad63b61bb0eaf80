"""Which of a model's texts become prompts."""

from __future__ import annotations

import pytest

from quantum_hybrid.text.records import Answer, Prompt
from quantum_hybrid.text.selection import PromptSelection, fault_of

GOOD = "Can you explain what a wormhole is?"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, None),
        ("I am lost. Where is the station?", None),
        ("Rewrite this sentence: `x = [1, 2]` is a list.", None),
        ('Who said "I think, therefore I am?"', None),
        ("Mayián Salas has a café. What else?", None),
        ("Hi there, Alex.", "fewer than 5 words"),
        ("", "fewer than 5 words"),
        ("Solve this riddle for me, please.\nWhat has four legs?", "several lines"),
        ("What does this line say?\x1b[2J", "not printable"),
        ("What does this \ufffd character mean?", "not printable"),
        ("Please summarise the key points of this article:", "no whole sentence"),
        ("Dear Sir or Madam, good morning,", "no whole sentence"),
        ("Как мне сварить яйцо всмятку сегодня?", "not English"),
        ("1 + 2 + 3 + 4 + 5 = what?", "not English"),
    ],
)
def test_what_is_no_prompt_has_a_reason(text, fault) -> None:
    assert fault_of(text, "stop") == fault


def test_a_text_that_was_cut_is_no_prompt() -> None:
    assert fault_of(GOOD, "length") == "no end"


def test_the_first_of_near_duplicates_is_kept_and_every_other_text_counted() -> None:
    selection = PromptSelection()
    texts = [f"  {GOOD}\n", "Hi there,", GOOD.upper(), "Why is the sky blue at noon?", "Hey,"]
    kept = [selection.offer(Answer(f"id{i}", i, text, "stop", "m")) for i, text in enumerate(texts)]
    assert kept == [True, False, False, True, False]
    assert selection.prompts == [
        Prompt("id0", "written", GOOD),
        Prompt("id3", "written", "Why is the sky blue at noon?"),
    ]
    assert selection.left_out == {"fewer than 5 words": 2, "near-duplicate": 1}
    assert selection.n_offered == 5


def test_a_text_that_was_dropped_for_another_reason_repeats_nothing() -> None:
    selection = PromptSelection()
    assert not selection.offer(Answer("a", 0, GOOD, "length", "m"))
    assert selection.offer(Answer("b", 1, GOOD, "stop", "m"))
