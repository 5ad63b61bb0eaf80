"""Which of a model's texts become prompts: a stated rule, applied in a fixed order.

    selection = PromptSelection()
    for answer in answers:  # in the order of their indices
        selection.offer(answer)
    selection.prompts, selection.left_out

The rule drops what a small model writes beside instructions: ramblings without an end, greetings
(`Hi there,`), introductions of a text that is missing (`Summarise this:`) and other languages. It
does not judge sense: about a third of what it keeps of the embedded model is an odd thing to ask.
"""

from __future__ import annotations

import string
from collections import Counter

from quantum_hybrid.text.duplicates import NearDuplicates
from quantum_hybrid.text.records import UNREADABLE, Answer, Prompt

CATEGORY = "written"
"""Category of a prompt that a model has written."""
FEWEST_WORDS = 5
LEAST_ENGLISH = 0.7
"""Smallest share of the letters a to z, in either case, among the characters that are no spaces."""
_CLOSING = "\"')]”’"
"""May follow the end of a sentence."""


class PromptSelection:
    """Keeps usable texts without near-duplicates, and counts the others."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        """The texts kept so far, without white space around them."""
        self.left_out: Counter[str] = Counter()
        """How many texts were dropped, by reason."""
        self._seen = NearDuplicates()

    @property
    def n_offered(self) -> int:
        """Number of texts so far, kept or dropped."""
        return len(self.prompts) + self.left_out.total()

    @property
    def summary(self) -> str:
        """How many texts were kept and dropped, in words."""
        kept = f"{len(self.prompts)} prompts from {self.n_offered} candidates"
        return f"{kept}; {left_out_in_words(self.left_out)}" if self.left_out else kept

    def offer(self, answer: Answer) -> bool:
        """Keep the text of an answer as a prompt, or count why not. Returns whether it is kept."""
        text = answer.text.strip()
        fault = fault_of(text, answer.finish_reason)
        if fault is None and self._seen.add(text) is not None:
            fault = "near-duplicate"
        if fault is not None:
            self.left_out[fault] += 1
            return False
        self.prompts.append(Prompt(answer.prompt_id, CATEGORY, text))
        return True


def left_out_in_words(left_out: Counter[str]) -> str:
    """Why texts were left out, the most frequent reason first."""
    reasons = [f"{n} {reason}" for reason, n in left_out.most_common()]
    return f"left out: {', '.join(reasons)}" if reasons else "none was left out"


def fault_of(text: str, finish_reason: str) -> str | None:
    """The first reason why a text is not usable as a prompt; None if it is usable."""
    if finish_reason != "stop":
        return "no end"
    if len(text.split()) < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    if len(text.splitlines()) > 1:
        return "several lines"
    if not text.isprintable() or UNREADABLE in text:
        return "not printable"
    if not text.rstrip(_CLOSING).endswith((".", "?", "!")):
        return "no whole sentence"
    characters = "".join(text.split())
    n_english = sum(character in string.ascii_letters for character in characters)
    return "not English" if n_english < LEAST_ENGLISH * len(characters) else None
