"""From a prompt and its answer to the token row that the student is trained on.

A token row is the conversation in the student's tokens. Prompt tokens are context and have the mask
value -100. Answer tokens are targets; their mask value is the token itself, as in Atropos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from quantum_hybrid.errors import TeacherError
from quantum_hybrid.shown import shown
from quantum_hybrid.text.alignment import common_spans, decoded_ends, spelled_ends
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Prompt
from quantum_hybrid.text.vocabularies import spells

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Mask value of a context token."""


@dataclass(frozen=True)
class SpanLogprobs:
    """The teacher's log-probabilities for one span of tokens that cover the same bytes."""

    tokens: range
    """Indices of the student's tokens, counted from the answer's first token."""
    log_earlier: float
    """Sum of the log-probabilities of the teacher's tokens in the span except the last."""
    top_logprobs: tuple[float, ...]
    """Log-probabilities of the teacher's k most likely tokens in place of its last token of the
    span, in descending order."""


@dataclass(frozen=True)
class Example:
    """One conversation as tokens and a mask of equal length."""

    tokens: tuple[int, ...]
    mask: tuple[int, ...]
    """The token itself for a target, `IGNORED` for context."""
    logprobs: AnswerLogprobs | None = None
    """The teacher's log-probabilities, if its tokenizer is the student's."""
    spans: tuple[SpanLogprobs, ...] = ()
    """The teacher's log-probabilities by span, for any tokenizer. Spans are in order and do not
    overlap."""

    @classmethod
    def of_text(cls, tokens: Sequence[int]) -> Example:
        """Plain text: every token but the first is a target."""
        return cls(tuple(tokens), (IGNORED, *tokens[1:]))

    @property
    def n_context(self) -> int:
        """Number of tokens before the first target."""
        return self.mask.count(IGNORED)


def teacher_rows(
    examples: Sequence[Example],
) -> dict[int, tuple[tuple[int, ...], tuple[float, ...]]]:
    """Row -> the teacher's top-k token ids and log-probabilities at that row.

    Rows number the targets of all examples, as in `student.answer_rows`. Rows without a list are
    left out.
    """
    known = {}
    row = 0
    for example in examples:
        n_rows = len(example.tokens) - example.n_context
        if example.logprobs is not None:
            pairs = zip(example.logprobs.top_ids, example.logprobs.top_logprobs, strict=True)
            for offset, pair in zip(range(n_rows), pairs, strict=False):
                if pair[0]:
                    known[row + offset] = pair
        row += n_rows
    return known


class Encoder:
    """Renders a prompt and its answer with the student's tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """The context tokens: the chat template, or without one the text and a blank line."""
        if self.tokenizer.chat_template:
            rendered = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt.text}],
                add_generation_prompt=True,
                tokenize=False,
            )
            return self._ids(str(rendered))
        return self._ids(prompt.text + "\n\n")

    def example(self, prompt: Prompt, answer: Answer) -> Example:
        """The example of one answer, in the teacher's tokens if these are the student's.

        An answer that was not cut off ends with the end-of-text token. Raises `TeacherError` for an
        answer without tokens.
        """
        logprobs = answer.logprobs if spells(self.tokenizer, answer) else None
        targets = list(logprobs.token_ids) if logprobs else self._ids(answer.text)
        return self._example(prompt, answer, targets, logprobs)

    def aligned_example(self, prompt: Prompt, answer: Answer) -> Example:
        """The example of one answer in the student's tokens, with the teacher's view by span.

        Raises `TeacherError` for an answer without tokens.
        """
        targets = self._ids(answer.text)
        spans = self._spans(targets, answer.text, answer.logprobs) if answer.logprobs else ()
        return self._example(prompt, answer, targets, spans=spans)

    def _example(
        self,
        prompt: Prompt,
        answer: Answer,
        targets: list[int],
        logprobs: AnswerLogprobs | None = None,
        spans: tuple[SpanLogprobs, ...] = (),
    ) -> Example:
        context = self.prompt_tokens(prompt)
        end = cast("int | None", self.tokenizer.eos_token_id)
        if answer.finish_reason == "stop" and end is not None and targets[-1:] != [end]:
            targets.append(end)
        if not targets:
            raise TeacherError(
                f"prompt {shown(answer.prompt_id)}: an answer without a single token"
            )
        mask = [IGNORED] * len(context) + targets
        return Example(tuple(context + targets), tuple(mask), logprobs, spans)

    def _spans(
        self, ids: Sequence[int], text: str, logprobs: AnswerLogprobs
    ) -> tuple[SpanLogprobs, ...]:
        """The spans for which the server gives all the log-probabilities that `uld` needs."""
        theirs = spelled_ends(logprobs.token_bytes, text)
        found = []
        for span in common_spans(decoded_ends(self.tokenizer, ids, text), theirs):
            *earlier, last = span.theirs
            given = [logprobs.token_logprobs[i] for i in earlier]
            known = [value for value in given if value is not None]
            if logprobs.top_logprobs[last] and len(known) == len(given):
                found.append(SpanLogprobs(span.ours, math.fsum(known), logprobs.top_logprobs[last]))
        return tuple(found)

    def examples(self, prompt: Prompt, answers: Sequence[Answer]) -> list[Example]:
        """One example per answer."""
        return [self.example(prompt, answer) for answer in answers]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
