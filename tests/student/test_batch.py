"""Batches: which rows are kept, and that padding has no effect."""

from __future__ import annotations

import torch

from quantum_hybrid.student import AnswerRows, answer_rows


def test_there_is_one_row_for_each_answer_token(make_student, examples) -> None:
    rows = answer_rows(make_student(), examples)
    targets = [t for example in examples for t in example.tokens[example.n_context :]]
    assert rows.targets.tolist() == targets
    lengths = torch.tensor([len(example.tokens) - example.n_context for example in examples])
    assert torch.bincount(rows.example).tolist() == lengths.tolist()
    assert rows.example.tolist() == sorted(rows.example.tolist())


def test_a_row_is_the_position_before_its_token(make_student, examples) -> None:
    """A row depends on the tokens before its target and not on the target."""
    student = make_student()
    example = examples[1]
    with torch.no_grad():
        rows = answer_rows(student, [example])
        for i in range(len(rows.targets)):
            seen = torch.tensor([example.tokens[: example.n_context + i]])
            expected = student.hidden_states(seen)[0, -1]
            torch.testing.assert_close(rows.hidden[i], expected, rtol=1e-4, atol=1e-5)


def test_padding_is_invisible(make_student, examples) -> None:
    student = make_student()
    assert len({len(example.tokens) for example in examples}) > 1
    with torch.no_grad():
        together = answer_rows(student, examples)
        for number, example in enumerate(examples):
            alone = answer_rows(student, [example])
            chosen = together.example == number
            torch.testing.assert_close(together.hidden[chosen], alone.hidden, rtol=1e-4, atol=1e-5)
            assert together.targets[chosen].tolist() == alone.targets.tolist()


def test_per_example_is_the_mean_of_each_example() -> None:
    rows = AnswerRows(torch.zeros(5, 2), torch.zeros(5).long(), torch.tensor([0, 0, 1, 2, 2]))
    means = rows.per_example(torch.tensor([1.0, 3.0, 5.0, 7.0, 8.0]))
    assert means.tolist() == [2.0, 5.0, 7.5]
