"""Distillation methods: the choice of one, and how each checks a teacher."""

from __future__ import annotations

import math

import pytest
import torch

from quantum_hybrid.config import RunConfig
from quantum_hybrid.distillation import ByRank, ByToken, Method, TextAlone, method_for
from quantum_hybrid.distillation.method import share_and_means
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes.ranks import ALONE
from quantum_hybrid.text.encoder import Encoder
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Prompt

PROMPT = Prompt("p", "c", "How long?")
BY_TOKEN, BY_RANK = ByToken(5, 1.5, 2.0), ByRank(5, 1.5, 2.0)
METHODS: list[Method] = [TextAlone(), BY_TOKEN, BY_RANK]


@pytest.fixture(scope="module")
def encoder(bpe_tokenizer) -> Encoder:
    return Encoder(bpe_tokenizer(400))


def written(tokenizer, text: str) -> Answer:
    """An answer from a server with this tokenizer, with two tokens listed at each position."""
    ids = tuple(tokenizer(text)["input_ids"])
    tokens = tuple(tokenizer.decode([i]) for i in ids)
    top = tuple((i, (i + 1) % len(tokenizer)) for i in ids)
    logprobs = AnswerLogprobs.from_lists(tokens, ids, top, ((-0.1, -3.0),) * len(ids))
    return Answer("p", 0, text, "length", "m", logprobs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, "kl", 1.5, 2.0), TextAlone()),
        ((5, "kl", 1.5, 2.0), BY_TOKEN),
        ((5, "uld", 1.5, 2.0), BY_RANK),
    ],
)
def test_the_configuration_says_which_it_is(given, expected) -> None:
    assert method_for(*given) == expected
    names = ("top_logprobs", "loss", "weight", "temperature")
    fields = {f"distill_{name}": value for name, value in zip(names, given, strict=True)}
    assert method_for(*RunConfig(**fields).distillation()) == expected


def test_it_introduces_itself_unless_there_is_text_alone() -> None:
    words = "text, and the teacher's top 5 log-probabilities: {}, weight 1.5, temperature 2"
    expected = [None, words.format("kl"), words.format("uld")]
    assert [method.introduction for method in METHODS] == expected
    assert [method.top_logprobs for method in METHODS] == [0, 5, 5]


def test_an_answer_becomes_what_the_method_learns_from(encoder) -> None:
    answers = [written(encoder.tokenizer, "Add two eggs."), Answer("p", 1, "No.", "stop", "m")]
    text, by_token, by_rank = (m.examples(encoder, PROMPT, answers) for m in METHODS)
    assert text == by_token == encoder.examples(PROMPT, answers)
    assert by_token[0].logprobs == answers[0].logprobs
    assert [example.tokens for example in by_rank] == [example.tokens for example in text]
    assert [span.tokens for span in by_rank[0].spans] == [
        range(i, i + 1) for i in range(len(by_token[0].tokens) - by_token[0].n_context)
    ]
    assert by_rank[0].logprobs is None
    assert by_rank[1].spans == ()


def test_by_token_the_vocabulary_must_be_the_student_s(encoder, bpe_tokenizer) -> None:
    answer, other = written(encoder.tokenizer, "Add two eggs."), bpe_tokenizer(500)
    assert answer.logprobs is not None
    n_same = f"{len(answer.logprobs.tokens)} tokens"
    line = BY_TOKEN.check([(PROMPT, answer)], encoder, None)
    assert line == f"shared by teacher and student: {n_same}"
    line = BY_TOKEN.check([(PROMPT, answer)], encoder, lambda: encoder.tokenizer)
    assert line is not None
    assert line.startswith("shared by teacher and student: tokenizer fingerprint ")
    assert line.endswith(n_same)
    words = r"^`distill_top_logprobs` 5: the teacher's vocabulary is not the student's .*\); start"
    with pytest.raises(UsageError, match=words):
        BY_TOKEN.check([(PROMPT, answer)], encoder, lambda: other)
    words = r"^`distill_top_logprobs` 5: .*the student's: the teacher's token .*; start a new run"
    with pytest.raises(UsageError, match=words):
        BY_TOKEN.check([(PROMPT, written(other, "Bake it slowly."))], encoder, None)


def test_by_rank_any_vocabulary_will_do_if_its_tokens_spell_the_text(encoder, bpe_tokenizer):
    foreign = written(bpe_tokenizer(300), "Bake it slowly.")
    silent = Answer("p", 1, "No.", "length", "m")
    line = BY_RANK.check([(PROMPT, foreign), (PROMPT, silent)], encoder, None)
    examples = BY_RANK.examples(encoder, PROMPT, [foreign, silent])
    counts = [len(example.tokens) - example.n_context for example in examples]
    assert line == (
        f"any: {counts[0]} of {sum(counts)} tokens of the held-out answers can be compared with "
        "the teacher's"
    )
    with pytest.raises(UsageError, match=r"^`distill_loss` uld: the teacher sends no log-prob"):
        BY_RANK.check([(PROMPT, silent)], encoder, None)


def test_text_alone_can_be_learned_from_any_teacher(encoder) -> None:
    assert TextAlone().check([(PROMPT, Answer("p", 0, "No.", "stop", "m"))], encoder, None) is None


def test_a_share_without_values_has_no_mean() -> None:
    values = {"a": torch.tensor([0.25, 0.75], dtype=torch.float64), "b": torch.tensor([1.0, 4.0])}
    assert share_and_means("share", 3, values, 4, ALONE) == {"share": 0.75, "a": 0.5, "b": 2.5}
    none = {"a": torch.zeros(0)}
    assert share_and_means("share", 0, none, 4, ALONE) == {"share": 0}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_term_asks_for_the_target_first_and_adds_nothing_where_nothing_is_known(
    method, encoder
) -> None:
    examples = method.examples(encoder, PROMPT, [Answer("p", 0, "Six minutes", "stop", "m")])
    targets = torch.tensor([t for t in examples[0].mask if t >= 0])
    term = method.term(examples)
    asked = term.asked(targets, 400)
    assert torch.equal(asked.listed, targets[:, None])
    assert asked.n_likeliest == 0
    log_q = torch.full((len(targets), 1), math.log(0.5))
    assert term.of_rows(log_q, slice(0, len(targets))).item() == 0
    assert set(term.figures(log_q, len(targets), ALONE).values()) <= {0}
