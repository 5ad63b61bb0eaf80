"""Comparison of vocabularies: by fingerprint, and by the tokens of a server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from quantum_hybrid.text.records import Answer, AnswerLogprobs
from quantum_hybrid.text.vocabularies import (
    VocabularyMismatch,
    check_answers,
    check_fingerprints,
    fingerprint,
    spells,
)


@pytest.fixture(scope="module")
def tokenizer(bpe_tokenizer):
    return bpe_tokenizer(400)


def changed(tokenizer, change) -> PreTrainedTokenizerFast:
    """The tokenizer of a changed JSON."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    change(content)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))


def swap_two(content) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]


def turn_around(content) -> None:
    content["model"]["vocab"] = dict(reversed(content["model"]["vocab"].items()))


CHANGES = {
    "numbers": swap_two,
    "merges": lambda content: content["model"]["merges"].reverse(),
    "normalizer": lambda content: content.update(normalizer={"type": "NFC"}),
    "cutting": lambda content: content["pre_tokenizer"].update(add_prefix_space=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_vocabulary_of_the_same_size_is_not_the_same(tokenizer, name) -> None:
    other = changed(tokenizer, CHANGES[name])
    assert len(other) == len(tokenizer)
    assert fingerprint(other) != fingerprint(tokenizer)
    words = r"^the teacher's vocabulary is not the student's \(tokenizer fingerprints .*\)$"
    with pytest.raises(VocabularyMismatch, match=words) as raised:
        check_fingerprints(other, tokenizer)
    assert fingerprint(other) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_does_not_change_a_token_does_not_count(tokenizer, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    templated = changed(tokenizer, turn_around)
    templated.chat_template = "{{ messages }}"
    for same in (loaded, templated):
        assert check_fingerprints(same, tokenizer) == fingerprint(tokenizer)


def test_the_embedded_models_tokenizer_keeps_its_fingerprint_in_a_saved_student(
    embedded_tokenizer, tiny_llama
) -> None:
    student = AutoTokenizer.from_pretrained(tiny_llama)
    assert fingerprint(student) == fingerprint(embedded_tokenizer)


def written(tokenizer, text: str) -> Answer:
    """An answer from a server with this tokenizer."""
    ids = tokenizer(text)["input_ids"]
    tokens = tuple(tokenizer.decode([i]) for i in ids)
    top = tuple((i, (i + 1) % len(tokenizer)) for i in ids)
    logprobs = AnswerLogprobs.from_lists(tokens, tuple(ids), top, ((-0.1, -3.0),) * len(ids))
    return Answer("p", 0, text, "stop", "m", logprobs)


def test_tokens_that_are_the_students_are_counted(tokenizer) -> None:
    answers = [written(tokenizer, "Add two eggs."), Answer("p", 1, "x", "stop", "m", None)]
    assert answers[0].logprobs is not None
    assert check_answers(tokenizer, answers) == len(answers[0].logprobs.tokens)
    assert [spells(tokenizer, answer) for answer in answers] == [True, False]


def test_one_token_that_is_another_is_named(tokenizer, bpe_tokenizer) -> None:
    good, foreign = written(tokenizer, "Yes."), written(bpe_tokenizer(500), "Bake it slowly.")
    with pytest.raises(VocabularyMismatch, match=r"the teacher's token \d+ is '.*', the student"):
        check_answers(tokenizer, [good, foreign])
    assert not spells(tokenizer, foreign)


def test_a_server_of_the_same_size_with_other_numbers_is_found_out(tokenizer) -> None:
    other = changed(tokenizer, swap_two)
    number = other.get_vocab()["A"]
    with pytest.raises(
        VocabularyMismatch, match=f"the teacher's token {number} is 'A', the student's 'B'"
    ):
        check_answers(tokenizer, [written(other, "Yes, A")])


def test_parts_of_characters_and_ends_are_no_difference(tokenizer) -> None:
    answer = written(tokenizer, "Naïve ☕, yes")
    logprobs = answer.logprobs
    assert logprobs is not None
    assert "�" in "".join(logprobs.tokens)
    ends = replace(
        logprobs,
        tokens=("", *logprobs.tokens[1:], "<|im_end|>"),
        token_ids=(*logprobs.token_ids, tokenizer.eos_token_id),
        top_ids=(*logprobs.top_ids, (0, 1)),
        top_logprobs=(*logprobs.top_logprobs, (-0.1, -3.0)),
        token_logprobs=(*logprobs.token_logprobs, None),
    )
    given = replace(answer, logprobs=ends)
    assert check_answers(tokenizer, [given]) > 3
    assert spells(tokenizer, given)


def test_a_part_of_a_character_is_none_by_its_bytes_either(tokenizer) -> None:
    answer = written(tokenizer, "Naïve ☕, yes")
    assert answer.logprobs is not None
    halves = tuple(token.replace("�", "\udce2") for token in answer.logprobs.tokens)
    assert halves != answer.logprobs.tokens
    given = replace(answer, logprobs=replace(answer.logprobs, tokens=halves))
    assert check_answers(tokenizer, [given]) == check_answers(tokenizer, [answer]) > 3
    only = replace(answer.logprobs, tokens=("\udce2",) * len(halves))
    assert check_answers(tokenizer, [replace(answer, logprobs=only)]) == 0


def test_answers_without_numbers_are_left_out(tokenizer) -> None:
    answer = written(tokenizer, "Add two eggs.")
    assert answer.logprobs is not None
    without = replace(answer, logprobs=replace(answer.logprobs, token_ids=(), top_ids=()))
    assert not spells(tokenizer, without)
    assert check_answers(tokenizer, [without, answer]) == len(answer.logprobs.tokens)


@pytest.mark.parametrize("has_texts", [True, False])
def test_without_numbers_there_is_nothing_to_learn_from(tokenizer, has_texts) -> None:
    logprobs = AnswerLogprobs(("Yes", "."), (), (), ((-0.1,),) * 2, (-0.1, None))
    answers = [Answer("p", 0, "Yes.", "stop", "m", logprobs if has_texts else None)]
    with pytest.raises(VocabularyMismatch, match=r"sends no log-probabilities with token ids"):
        check_answers(tokenizer, answers)


@pytest.mark.parametrize("shift", [0, 1])
def test_numbers_in_place_of_texts_must_spell_the_answer(tokenizer, shift) -> None:
    answer = written(tokenizer, "Add two eggs.")
    assert answer.logprobs is not None
    ids = tuple(i + shift for i in answer.logprobs.token_ids)
    numbers = tuple(f"token_id:{i}" for i in ids)
    given = replace(answer, logprobs=replace(answer.logprobs, tokens=numbers, token_ids=ids))
    if shift:
        with pytest.raises(VocabularyMismatch, match="do not decode to its answers"):
            check_answers(tokenizer, [given])
    else:
        assert check_answers(tokenizer, [given]) == 0
