"""Distance of sorted lists: the formula, its bound, its gradient in one pass, and its spans."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heads import ROWS, VOCABULARY, assert_equal, batch, distributions, gradients, head
from quantum_hybrid.distillation import NO_TERM, DistanceTerm, SpanTopK, span_distances
from quantum_hybrid.processes.ranks import ALONE
from quantum_hybrid.student import HybridHead
from quantum_hybrid.student.head import Mixing
from quantum_hybrid.text.encoder import IGNORED, Example, SpanLogprobs
from quantum_hybrid.training import three_part_loss
from quantum_hybrid.training.head_pass import one_pass as passes
from quantum_hybrid.training.head_pass.one_pass import LogProbabilities, one_pass

MIXINGS: tuple[Mixing, ...] = ("logits", "probability")
SPANS = [(0, 0), (1, 3), (4, 4), (7, 8), (9, 30), (32, 32), (35, 36)]
"""First and last row: of one row and of more, next to each other and not, one of 22."""


def spans(k: int, words: int = 40) -> SpanTopK:
    """Spans of a teacher that wrote one, two or three tokens for the student's rows above."""
    first, last = torch.tensor(SPANS).unbind(1)
    log_p = distributions(len(SPANS), words, 2).topk(k).values
    log_a = torch.tensor([0.0, 0.0, -0.7, -2.5, -1.0, -0.1, 0.0], dtype=torch.float64)
    return SpanTopK(first, last, log_a, log_p)


def whole(a: Tensor, log_p: Tensor, b: Tensor, log_q: Tensor) -> Tensor:
    """The distance of two complete vocabularies, the smaller one padded with zeros."""
    size = max(len(log_p), len(log_q))
    p, q = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    p[: len(log_p)] = log_p.exp().sort(descending=True).values
    q[: len(log_q)] = log_q.exp().sort(descending=True).values
    return (a * p - b * q).abs().sum()


def of_one_row(log_a: float, log_p: Tensor, log_b: float, log_q: Tensor, temperature=1.0) -> Tensor:
    """A span of two student tokens, the first of probability exp(log_b)."""
    k = min(len(log_p), len(log_q))
    asked = torch.cat([torch.zeros(1), log_q.topk(k).values]).double()
    rows = torch.stack([torch.full_like(asked, log_b), asked])
    teacher = SpanTopK(
        torch.tensor([0]),
        torch.tensor([1]),
        torch.tensor([log_a], dtype=torch.float64),
        log_p[None],
    )
    return span_distances(teacher, rows, temperature)[0]


@given(
    seed=st.integers(0, 10**6),
    words=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    k=st.integers(1, 30),
    factors=st.tuples(st.floats(-6, 0), st.floats(-6, 0)),
)
def test_it_is_a_lower_bound_and_the_whole_distance_where_all_is_listed(
    seed, words, k, factors
) -> None:
    log_p, log_q = (distributions(1, n, seed + i)[0] for i, n in enumerate(words))
    a, b = torch.tensor(factors, dtype=torch.float64).exp()
    exact = whole(a, log_p, b, log_q)
    top = log_p.topk(min(k, len(log_p))).values
    assert of_one_row(factors[0], top, factors[1], log_q) <= exact + 1e-12
    everything = of_one_row(factors[0], log_p.topk(len(log_p)).values, factors[1], log_q)
    assert everything.item() == pytest.approx(exact.item(), abs=1e-6)
    assert 0 <= everything <= 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_it_asks_for_no_common_token_and_is_zero_at_the_same_list(temperature) -> None:
    log_p = distributions(1, 20, 0)[0].sort(descending=True).values
    same = of_one_row(-0.5, log_p[:6], -0.5, log_p.flip(0), temperature)
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert of_one_row(-0.5, log_p[:6], -0.6, log_p, temperature) > 0.01


def test_fewer_listed_tokens_are_compared_with_as_many() -> None:
    log_p, log_q = distributions(2, 40, 0).topk(8).values, distributions(2, 40, 1).topk(8).values
    asked = torch.cat([torch.zeros(2, 1, dtype=torch.float64), log_q], 1).requires_grad_()
    places, zeros = torch.arange(2), torch.zeros(2, dtype=torch.float64)
    fewer = log_p.clone()
    fewer[1, 5:] = -math.inf
    got = span_distances(SpanTopK(places, places, zeros, fewer), asked, 1.0)
    assert got[1].item() == pytest.approx(of_one_row(0, log_p[1, :5], 0, log_q[1, :5]).item())
    (gradient,) = torch.autograd.grad(got.sum(), asked)
    assert gradient.isfinite().all()
    assert (gradient[1, 6:] == 0).all()


def plain(
    hybrid: HybridHead, hidden: Tensor, targets: Tensor, teacher: SpanTopK, temperature: float
) -> Tensor:
    """The sum of distances by its definition: softmax, sort, chain rule, L1."""
    log_q = hybrid(hidden).hybrid.double().log_softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for (first, last), log_a, log_p in zip(SPANS, teacher.log_a, teacher.log_p, strict=True):
        p = log_p[log_p.isfinite()].exp()
        q = log_q[last].exp().sort(descending=True).values
        p = torch.cat([p, 1 - p.sum()[None]]) ** (1 / temperature)
        q = torch.cat([q[: len(p) - 1], q[len(p) - 1 :].sum()[None]]) ** (1 / temperature)
        b = torch.ones((), dtype=torch.float64)
        for row in range(first, last):
            b = b * log_q[row, targets[row]].exp()
        total = total + (log_a.exp() * p / p.sum() - b * q / q.sum()).abs().sum()
    return total


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "torch"])
@pytest.mark.parametrize("rows_at_a_time", [16, 1000])
def test_values_and_gradients_are_those_of_the_plain_formula(
    monkeypatch, mixing, temperature, dtype, rows_at_a_time
) -> None:
    """Spans move the ends of chunks, and one span is longer than a chunk.

    The weight makes the distance's gradient as large as that of the cross-entropies."""
    monkeypatch.setattr(passes, "CHUNK_NUMBERS", rows_at_a_time * VOCABULARY)
    hybrid, (hidden, targets) = head(mixing, dtype), batch(dtype)
    log_q = hybrid(hidden).hybrid.detach()
    targets[1::2] = log_q.argmax(-1)[1::2]  # or b would be next to nothing
    teacher = spans(6)
    teacher.log_p[2, 4:] = -math.inf
    term = DistanceTerm(teacher, 30.0, temperature)
    losses = three_part_loss(
        hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7, term=term
    )
    text = three_part_loss(hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7)
    added = 30 * plain(hybrid, hidden, targets, teacher, temperature) / ROWS
    expected = text.objective + added.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(losses.objective, expected, rtol=tolerance, atol=tolerance)
    got = gradients(losses.objective, hybrid, hidden)
    assert_equal(got, gradients(expected, hybrid, hidden), 10 * tolerance)
    assert torch.allclose(losses.hybrid, text.hybrid, rtol=1e-6)
    figures = term.figures(losses.log_q, ROWS, ALONE)
    at_one = plain(hybrid, hidden, targets, teacher, 1.0) / len(SPANS)
    assert figures["train/uld"] == pytest.approx(at_one.item(), rel=1e-5)
    assert figures["train/uld_rows"] == 32 / ROWS
    assert teacher.n_tokens.tolist() == [1, 3, 1, 2, 22, 1, 2]


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "torch"])
def test_the_most_likely_tokens_are_the_hybrids(monkeypatch, mixing, dtype) -> None:
    """200 rows in chunks of 64, with a chosen part of each."""
    monkeypatch.setattr(passes, "CHUNK_NUMBERS", 90 * VOCABULARY)
    hybrid, (hidden, targets) = head(mixing, dtype), batch(dtype, rows=200)
    value, found = one_pass(
        hybrid, hidden, targets[:, None], lambda p, _: -p.hybrid[:, 0].sum(), n_likeliest=5
    )
    exact = hybrid(hidden).hybrid.double().log_softmax(-1)
    assert found.hybrid.shape == (200, 6)
    expected = exact.topk(5).values.to(dtype)
    torch.testing.assert_close(found.hybrid[:, 1:], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(value, -exact.gather(1, targets[:, None]).sum().to(dtype))


def test_no_chunk_cuts_through_a_span(monkeypatch) -> None:
    seen: list[slice] = []

    def objective(log_p: LogProbabilities, rows: slice) -> Tensor:
        seen.append(rows)
        return log_p.hybrid.sum()

    hybrid, (hidden, targets) = head("logits"), batch()
    monkeypatch.setattr(passes, "CHUNK_NUMBERS", 16 * VOCABULARY)
    ends = spans(6).ends(ROWS)
    assert ends == [1, 4, 5, 6, 7, 9, 31, 32, 33, 34, 35, 37]
    one_pass(hybrid, hidden, targets[:, None], objective, ends=ends)
    assert seen == [slice(0, 9), slice(9, 31), slice(31, 37)]
    with pytest.raises(ValueError, match="the last one the number of rows, 37"):
        one_pass(hybrid, hidden, targets[:, None], objective, ends=ends[:-1])


def test_without_any_span_nothing_is_added() -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    none = DistanceTerm(SpanTopK.of([]), 1.0, 2.0)
    losses, text = (
        three_part_loss(
            hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7, term=term
        )
        for term in (none, NO_TERM)
    )
    assert torch.equal(losses.objective, text.objective)
    assert none.figures(losses.log_q, ROWS, ALONE) == {"train/uld_rows": 0}


def with_spans(example: Example, *lengths: int) -> Example:
    """Consecutive spans of these lengths from the answer's start, of a teacher that is certain."""
    spans, start = [], 0
    for n in lengths:
        top = (math.log(0.9), math.log(0.05), math.log(0.01))[: 1 + n]
        spans.append(SpanLogprobs(range(start, start + n), -0.25 * (n - 1), top))
        start += n
    return dataclasses.replace(example, spans=tuple(spans))


def test_rows_are_those_of_the_answers(groups) -> None:
    one, two = groups[0]
    n_one, n_two = (sum(token != IGNORED for token in example.mask) for example in (one, two))
    teacher = SpanTopK.of([with_spans(one, 1, 2), two, with_spans(one, 2)])
    assert teacher.first.tolist() == [0, 1, n_one + n_two]
    assert teacher.last.tolist() == [0, 2, n_one + n_two + 1]
    assert teacher.log_a.tolist() == [0, -0.25, -0.25]
    assert teacher.log_p.shape == (3, 3)
    assert teacher.log_p[0].tolist() == [math.log(0.9), math.log(0.05), -math.inf]


def test_a_step_learns_from_it_and_says_how_much_of_it_there_was(new_learner, groups) -> None:
    one, two = groups[0]
    group = [with_spans(one, 1, 2), two]
    values = {"distill_top_logprobs": 3, "distill_loss": "uld"}
    learner, text_only = new_learner(**values), new_learner(**values, distill_weight=0.0)
    plain = new_learner()
    results = [x.train_on(group, 0) for x in (learner, text_only, plain)]
    assert results[0].metrics["train/uld_rows"] == pytest.approx(3 / results[0].n_tokens)
    assert 0 < results[0].metrics["train/uld"] <= 2
    assert "train/kl_rows" not in results[0].metrics
    assert "train/uld_rows" not in results[2].metrics
    after = [x.train_on(group, 1).metrics for x in (learner, text_only, plain)]
    assert after[0]["train/uld"] != after[1]["train/uld"]
    assert after[1]["train/hybrid_loss"] == pytest.approx(after[2]["train/hybrid_loss"], rel=1e-5)
    history = [learner.train_on(group, step).metrics for step in range(2, 14)]
    assert history[-1]["train/uld"] < after[0]["train/uld"]


def test_without_any_the_share_is_zero_and_no_distance_is_made_up(new_learner, groups) -> None:
    learner = new_learner(distill_top_logprobs=3, distill_loss="uld")
    metrics = learner.train_on(groups[0], 0).metrics
    assert metrics["train/uld_rows"] == 0
    assert "train/uld" not in metrics
