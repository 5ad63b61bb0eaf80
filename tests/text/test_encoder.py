"""Conversations as token rows: targets, and the teacher's log-probabilities of them."""

from __future__ import annotations

import dataclasses

import pytest
from transformers import AutoTokenizer

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.errors import TeacherError
from quantum_hybrid.text.encoder import IGNORED, Encoder, Example
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Prompt

SPLITS = ("train", "validation", "test")
PROMPT = Prompt("x1", "test", "How many eggs are in a dozen?")


def answer(text: str, finish_reason: str = "length", logprobs: AnswerLogprobs | None = None):
    return Answer(PROMPT.id, 0, text, finish_reason, "m", logprobs)


def spelled(ids: list[int], top_ids: list[tuple[int, ...]] | None = None) -> AnswerLogprobs:
    """The log-probabilities of a teacher that wrote these tokens."""
    top = top_ids or [(token,) for token in ids]
    logprobs = tuple((-0.5,) * len(row) for row in top)
    return AnswerLogprobs.from_lists(tuple(str(i) for i in ids), tuple(ids), tuple(top), logprobs)


@pytest.fixture
def encoder(embedded_tokenizer) -> Encoder:
    return Encoder(embedded_tokenizer)


def letters(encoder: Encoder, text: str) -> list[int]:
    """One-letter tokens: a tokenisation that the tokenizer itself would not choose."""
    return [i for letter in text for i in encoder.tokenizer(letter)["input_ids"]]


def test_the_context_is_the_chat_template_ready_for_the_answer(encoder) -> None:
    text = encoder.tokenizer.decode(encoder.prompt_tokens(PROMPT))
    assert text.endswith(f"<|im_start|>user\n{PROMPT.text}<|im_end|>\n<|im_start|>assistant\n")


def test_a_tokenizer_without_a_chat_template_gets_the_text_and_a_blank_line(small_llama) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_llama)
    ids = Encoder(tokenizer).prompt_tokens(PROMPT)
    assert tokenizer.decode(ids) == PROMPT.text + "\n\n"
    assert tokenizer.bos_token_id not in ids


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter"])
def test_only_answer_tokens_are_targets(encoder, finish_reason) -> None:
    context = encoder.prompt_tokens(PROMPT)
    example = encoder.example(PROMPT, answer("Twelve, or 12.", finish_reason))
    assert example.n_context == len(context)
    assert list(example.tokens[: len(context)]) == context
    assert set(example.mask[: len(context)]) == {IGNORED}
    assert example.mask[len(context) :] == example.tokens[len(context) :]
    assert len(example.mask) == len(example.tokens)
    end = encoder.tokenizer.eos_token if finish_reason == "stop" else ""
    assert encoder.tokenizer.decode(example.tokens[len(context) :]) == "Twelve, or 12." + end


def test_plain_text_is_a_target_but_for_its_first_token() -> None:
    example = Example.of_text([5, 6, 7])
    assert example == Example((5, 6, 7), (IGNORED, 6, 7))
    assert example.n_context == 1


def test_examples_of_a_group_keep_the_order_of_its_answers(encoder) -> None:
    answers = [answer("One."), answer("Two.")]
    assert encoder.examples(PROMPT, answers) == [encoder.example(PROMPT, a) for a in answers]


def test_an_answer_without_a_token_is_an_error(encoder) -> None:
    with pytest.raises(TeacherError, match="prompt x1: an answer without a single token"):
        encoder.example(PROMPT, answer(""))


@pytest.mark.parametrize("said", ["Twelve", " Twelve\n"])
def test_the_tokens_that_the_teacher_drew_are_the_targets(encoder, said) -> None:
    ids = letters(encoder, said)
    assert ids != encoder.tokenizer(said)["input_ids"]
    logprobs = spelled(ids)
    example = encoder.example(PROMPT, answer("Twelve", "length", logprobs))
    assert list(example.tokens[example.n_context :]) == ids
    assert example.logprobs == logprobs


def test_end_of_text_is_not_added_twice(encoder) -> None:
    ids = [*letters(encoder, "Twelve"), encoder.tokenizer.eos_token_id]
    example = encoder.example(PROMPT, answer("Twelve", "stop", spelled(ids)))
    assert list(example.tokens[example.n_context :]) == ids


def test_tokens_of_another_vocabulary_are_not_taken_for_ours(encoder) -> None:
    ids = letters(encoder, "Twelve")
    size = len(encoder.tokenizer)
    foreign = [
        spelled([*ids[:-1], ids[0]]),
        spelled(ids[:-1]),
        spelled([*ids, size]),
        spelled(ids, [(token, size) for token in ids]),
        spelled([]),
        dataclasses.replace(spelled(ids), token_ids=(), top_ids=()),
    ]
    own = encoder.tokenizer("Twelve")["input_ids"]
    for logprobs in foreign:
        example = encoder.example(PROMPT, answer("Twelve", "length", logprobs))
        assert list(example.tokens[example.n_context :]) == own
        assert example.logprobs is None


SAID = (-0.1, -0.2, -0.4, -0.8, -1.6, -3.2)


def letter_by_letter(text: str) -> AnswerLogprobs:
    """The log-probabilities of a teacher whose tokens are letters with unknown ids."""
    top = tuple((value, -5.0) for value in SAID[: len(text)])
    return AnswerLogprobs(tuple(text), (), (), top, SAID[: len(text)])


def test_the_students_own_tokens_carry_the_teachers_view_of_spans(encoder) -> None:
    ids = encoder.tokenizer("Twelve")["input_ids"]
    assert len(ids) == 2
    first = len(encoder.tokenizer.decode(ids[:1]))
    example = encoder.aligned_example(PROMPT, answer("Twelve", "stop", letter_by_letter("Twelve")))
    assert list(example.tokens[example.n_context :]) == [*ids, encoder.tokenizer.eos_token_id]
    assert example.logprobs is None
    one, two = example.spans
    assert (one.tokens, two.tokens) == (range(0, 1), range(1, 2))
    assert one.log_earlier == pytest.approx(sum(SAID[: first - 1]))
    assert two.log_earlier == pytest.approx(sum(SAID[first:5]))
    assert one.top_logprobs == (SAID[first - 1], -5.0)
    assert two.top_logprobs == (SAID[5], -5.0)


def test_a_span_of_which_not_all_is_known_is_left_out(encoder) -> None:
    logprobs = letter_by_letter("Twelve")
    own, top = list(logprobs.token_logprobs), list(logprobs.top_logprobs)
    own[0], top[0] = None, ()
    known = dataclasses.replace(logprobs, token_logprobs=tuple(own), top_logprobs=tuple(top))
    (span,) = encoder.aligned_example(PROMPT, answer("Twelve", "length", known)).spans
    assert span.tokens == range(1, 2)
    top[5] = ()
    known = dataclasses.replace(known, top_logprobs=tuple(top))
    assert encoder.aligned_example(PROMPT, answer("Twelve", "length", known)).spans == ()
    own[5] = None  # of a last token it is the list that counts
    known = dataclasses.replace(logprobs, token_logprobs=tuple(own))
    assert len(encoder.aligned_example(PROMPT, answer("Twelve", "length", known)).spans) == 1


def test_a_text_without_log_probabilities_is_the_same_example_as_ever(encoder) -> None:
    given = answer("Twelve, or 12.", "stop")
    assert encoder.aligned_example(PROMPT, given) == encoder.example(PROMPT, given)


def test_the_embedded_tokenizer_splits_digits(embedded_tokenizer, tmp_path) -> None:
    """As llama.cpp does for this model; else teacher and student would split digits differently."""
    embedded_tokenizer.save_pretrained(tmp_path)
    for tokenizer in (
        embedded_tokenizer,
        AutoTokenizer.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(prepare_embedded()),
    ):
        assert tokenizer.tokenize("12345") == ["1", "2", "3", "4", "5"]
        assert tokenizer.decode(tokenizer("In 1969, 3.5x")["input_ids"]) == "In 1969, 3.5x"
