"""Distillation by top-k: the divergence, its gradient, and rows without a list."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heads import assert_equal, batch, distributions, gradients, head
from quantum_hybrid.distillation import DivergenceTerm, TopK, top_k_kl
from quantum_hybrid.processes.ranks import ALONE
from quantum_hybrid.text.encoder import IGNORED, Example
from quantum_hybrid.text.records import AnswerLogprobs
from quantum_hybrid.training import three_part_loss
from quantum_hybrid.training.head_pass import one_pass as passes

TEMPERATURES = [0.5, 1.0, 2.0, 4.0]


def plain_kl(log_p: Tensor, log_q: Tensor, temperature: float) -> Tensor:
    """The module's formula for one row, written out."""
    p, q = log_p.exp(), log_q.exp()
    b = torch.cat([p, 1 - p.sum()[None]]) ** (1 / temperature)
    c = torch.cat([q, 1 - q.sum()[None]]) ** (1 / temperature)
    b, c = b / b.sum(), c / c.sum()
    return temperature**2 * (b * (b / c).log()).sum()


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_it_is_the_formula(temperature) -> None:
    teacher, student = distributions(5, 40, 0), distributions(5, 40, 1)
    log_p, ids = teacher.topk(8)
    log_q = student.gather(1, ids)
    got = top_k_kl(log_p, log_q, temperature)
    for row in range(5):
        expected = plain_kl(log_p[row], log_q[row], temperature)
        assert got[row].item() == pytest.approx(expected.item(), rel=1e-12)
    assert (got > 0).all()


def test_at_temperature_1_it_is_less_than_over_the_whole_vocabulary() -> None:
    teacher, student = distributions(5, 40, 0), distributions(5, 40, 1)
    log_p, ids = teacher.topk(8)
    log_q = student.gather(1, ids)
    whole = (teacher.exp() * (teacher - student)).sum(-1)
    assert (top_k_kl(log_p, log_q) < whole).all()


@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 11),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_it_is_never_negative_and_zero_only_at_the_teacher(seed, k, temperature) -> None:
    teacher, student = distributions(3, 12, seed), distributions(3, 12, seed + 1)
    log_p, ids = teacher.topk(k)
    assert (top_k_kl(log_p, student.gather(1, ids), temperature) > 0).all()
    assert top_k_kl(log_p, log_p.clone(), temperature).abs().max() < 1e-10


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_what_is_not_listed_is_not_looked_at(temperature) -> None:
    teacher, student = distributions(3, 40, 0), distributions(3, 40, 1)
    log_p, ids = teacher.topk(8)
    log_q = student.gather(1, ids)
    fewer, log_q = log_p.clone(), log_q.requires_grad_()
    fewer[1, 5:], fewer[2] = -math.inf, -math.inf
    got = top_k_kl(fewer, log_q, temperature)
    assert got[0].item() == pytest.approx(top_k_kl(log_p, log_q, temperature)[0].item())
    alone = top_k_kl(log_p[1:2, :5], log_q[1:2, :5], temperature)
    assert got[1].item() == pytest.approx(alone.item())
    assert got[2].item() == 0
    (gradient,) = torch.autograd.grad(got.sum(), log_q)
    assert gradient.isfinite().all()
    assert (gradient[1, 5:] == 0).all()
    assert (gradient[2] == 0).all()
    assert (gradient[0] != 0).all()


def test_a_student_that_leaves_nothing_for_the_rest_has_a_finite_gradient() -> None:
    log_p = torch.tensor([[0.6, 0.3]], dtype=torch.float64).log()
    log_q = torch.tensor([[0.7, 0.3]]).log().requires_grad_()
    value = top_k_kl(log_p, log_q, 1.0)
    (gradient,) = torch.autograd.grad(value.sum(), log_q)
    assert 0 < value.item() < 3
    assert gradient.abs().max() < 2


@pytest.mark.parametrize("mixing", ["logits", "probability"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_plain_formula(
    monkeypatch, mixing, temperature, dtype
) -> None:
    """With rows that list fewer tokens or none, in three chunks."""
    hybrid, (hidden, targets) = head(mixing, dtype), batch(dtype)
    rows, words = len(targets), hybrid.classical.decoder.out_features
    monkeypatch.setattr(passes, "CHUNK_NUMBERS", 16 * words)
    log_p, ids = distributions(rows, words, 2).topk(6)
    log_p[3, 4:], log_p[7], ids[7] = -math.inf, -math.inf, 0
    term = DivergenceTerm(TopK(ids, log_p), 0.3, temperature)
    losses = three_part_loss(
        hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7, term=term
    )
    exact = hybrid(hidden).hybrid.double().log_softmax(-1)

    def kl_at(t: float) -> Tensor:
        widths = [int(row.isfinite().sum()) for row in log_p]
        known = [(r, k) for r, k in enumerate(widths) if k]
        return torch.stack(
            [plain_kl(log_p[r, :k], exact[r].gather(0, ids[r, :k]), t) for r, k in known]
        )

    text = three_part_loss(hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7)
    expected = text.objective + (0.3 * kl_at(temperature).sum() / rows).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(losses.objective, expected, rtol=tolerance, atol=tolerance)
    got = gradients(losses.objective, hybrid, hidden)
    assert_equal(got, gradients(expected, hybrid, hidden), 10 * tolerance)
    assert torch.equal(losses.hybrid, text.hybrid)
    figures = term.figures(losses.log_q, rows, ALONE)
    assert figures["train/kl_rows"] == (rows - 1) / rows
    at_one = kl_at(1.0).mean().item()
    assert figures["train/kl_to_teacher"] == pytest.approx(at_one, rel=10 * tolerance)


def with_logprobs(example: Example, n_tokens: int, k: int) -> Example:
    """The teacher's view of the first `n_tokens` of the answer."""
    ids = tuple(t for t in example.mask if t != IGNORED)[:n_tokens]
    top = tuple(tuple((i + j) % 512 for j in range(k)) for i in ids)
    values = tuple(math.log(0.5) - j for j in range(k))
    logprobs = AnswerLogprobs.from_lists(("x",) * len(ids), ids, top, (values,) * len(ids))
    return dataclasses.replace(example, logprobs=logprobs)


def test_rows_are_those_of_the_answers(groups) -> None:
    one, two = groups[0]
    n_one = len(one.tokens) - one.n_context
    examples = [one, with_logprobs(two, 2, 3), with_logprobs(one, 1, 2)]
    teacher = TopK.of(examples)
    assert teacher.ids.shape[1] == 3
    n_two = len(two.tokens) - two.n_context
    expected = [n_one, n_one + 1, n_one + n_two]
    assert teacher.known.nonzero().flatten().tolist() == expected
    first = two.tokens[two.n_context]
    assert teacher.ids[n_one].tolist() == [first, (first + 1) % 512, (first + 2) % 512]
    assert teacher.log_p[expected[2]].tolist() == [math.log(0.5), math.log(0.5) - 1, -math.inf]


def test_a_step_learns_from_it_and_says_how_much_of_it_there_was(new_learner, groups) -> None:
    one, two = groups[0]
    group = [with_logprobs(one, 2, 3), two]
    values = {"distill_top_logprobs": 3, "distill_temperature": 2.0}
    learner, text_only = new_learner(**values), new_learner(**values, distill_weight=0.0)
    plain = new_learner()
    results = [x.train_on(group, 0) for x in (learner, text_only, plain)]
    share = 2 / results[0].n_tokens
    assert results[0].metrics["train/kl_rows"] == pytest.approx(share)
    assert results[0].metrics["train/kl_to_teacher"] > 0
    assert results[0].metrics["train/kl_listed"] == 3
    assert "train/kl_rows" not in results[2].metrics
    after = [x.train_on(group, 1).metrics for x in (learner, text_only, plain)]
    name = "train/kl_to_teacher"
    assert after[0][name] != after[1][name]
    assert after[1]["train/hybrid_loss"] == pytest.approx(after[2]["train/hybrid_loss"], rel=1e-5)
    history = [learner.train_on(group, step).metrics for step in range(2, 14)]
    assert history[-1][name] < after[0][name]


def test_without_any_the_share_is_zero_and_no_divergence_is_made_up(new_learner, groups) -> None:
    metrics = new_learner(distill_top_logprobs=3).train_on(groups[0], 0).metrics
    assert metrics["train/kl_rows"] == 0
    assert "train/kl_to_teacher" not in metrics
