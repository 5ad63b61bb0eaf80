"""Every logged number against a plain computation: one answer at a time, float64, no shortcut."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.distillation import top_k_kl
from quantum_hybrid.errors import TrainingError
from quantum_hybrid.evaluation import (
    evaluate,
    hybrid_performance,
    metrics,
    quantum_state_metrics,
)
from quantum_hybrid.student import HybridForCausalLM, answer_rows
from quantum_hybrid.text.encoder import Example
from quantum_hybrid.text.records import AnswerLogprobs

MIXINGS = ("logits", "probability")
V = 512


@dataclass
class Plain:
    """Predictions at every answer token, rows by vocabulary, in float64."""

    classical: torch.Tensor
    quantum: torch.Tensor
    targets: torch.Tensor
    alpha: float
    mixing: str

    def mix(self, quantum: torch.Tensor) -> torch.Tensor:
        if self.mixing == "logits":
            mixture = self.alpha * self.classical + (1 - self.alpha) * quantum
            return mixture / math.hypot(self.alpha, 1 - self.alpha)
        p = self.alpha * self.classical.softmax(-1) + (1 - self.alpha) * quantum.softmax(-1)
        return p.log()

    def cross_entropy(self, logits: torch.Tensor) -> float:
        log_p = logits.log_softmax(-1)
        return -float(log_p[range(len(self.targets)), self.targets].mean())


def plain(student: HybridForCausalLM, examples: Sequence[Example]) -> Plain:
    classical, quantum, targets = [], [], []
    with torch.no_grad():
        for example in examples:
            hidden = student.hidden_states(torch.tensor([example.tokens]))[0]
            logits = student.head(hidden)
            for position in range(len(example.tokens) - 1):
                if example.mask[position + 1] >= 0:
                    classical.append(logits.classical[position].double())
                    quantum.append(logits.quantum[position].double())
                    targets.append(example.tokens[position + 1])
    alpha = 1 / (1 + math.exp(-student.head.alpha_logit.item()))
    stacked = torch.stack(classical), torch.stack(quantum), torch.tensor(targets)
    return Plain(*stacked, alpha, student.head.mixing)


def entropy(logits: torch.Tensor) -> float:
    return float(torch.special.entr(logits.softmax(-1)).sum(-1).mean())


def teacher_log_p(rows: int, seed: int = 3) -> torch.Tensor:
    return (3 * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def with_teacher(example: Example, log_p: torch.Tensor, widths: Sequence[int]) -> Example:
    """The example with the teacher's most likely tokens at each of its answer's tokens."""
    top = [row.sort(descending=True) for row in log_p.double()]
    logprobs = AnswerLogprobs.from_lists(
        tokens=("?",) * len(widths),
        token_ids=example.tokens[example.n_context :][: len(widths)],
        top_ids=tuple(tuple(t.indices[:k].tolist()) for t, k in zip(top, widths, strict=True)),
        top_logprobs=tuple(tuple(t.values[:k].tolist()) for t, k in zip(top, widths, strict=True)),
    )
    return dataclasses.replace(example, logprobs=logprobs)


def n_answer(example: Example) -> int:
    return len(example.tokens) - example.n_context


@pytest.mark.parametrize("mixing", MIXINGS)
def test_losses_perplexities_and_entropies(make_student, examples, mixing) -> None:
    student = make_student(mixing=mixing)
    expected, got = plain(student, examples), evaluate(student, examples)
    hybrid = expected.mix(expected.quantum)
    pathways = {"hybrid": hybrid, "classical": expected.classical, "quantum": expected.quantum}
    for name, logits in pathways.items():
        loss = expected.cross_entropy(logits)
        assert got[f"eval/{name}_loss"] == pytest.approx(loss, rel=1e-5)
        assert got[f"eval/perplexity_{name}"] == pytest.approx(math.exp(loss), rel=1e-4)
    h, c = entropy(hybrid), entropy(expected.classical)
    assert abs(h - c) > 0.1
    assert got["eval/hybrid_performance"] == pytest.approx(1 - abs(h - c) / max(h, c), rel=1e-5)
    assert got["model/alpha"] == pytest.approx(expected.alpha, abs=1e-6)
    assert got["eval/quantum_weight"] == pytest.approx(1 - expected.alpha, abs=1e-6)
    assert got["eval/tokens"] == sum(map(n_answer, examples))
    assert "eval/kl_to_teacher" not in got


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_ablation_replaces_q_by_its_mean_over_the_held_out_rows(
    make_student, examples, mixing
) -> None:
    student = make_student(mixing=mixing)
    expected = plain(student, examples)
    mean_q = expected.quantum.mean(0, keepdim=True).expand_as(expected.quantum)
    without = expected.cross_entropy(expected.mix(mean_q))
    ablation = without - expected.cross_entropy(expected.mix(expected.quantum))
    assert abs(ablation) > 1e-3
    assert evaluate(student, examples)["eval/quantum_ablation"] == pytest.approx(ablation, abs=1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_differences_come_with_their_standard_error_over_answers(
    make_student, examples, mixing
) -> None:
    student = make_student(mixing=mixing)
    p = plain(student, examples)
    rows = range(len(p.targets))
    mean_q = p.quantum.mean(0, keepdim=True).expand_as(p.quantum)
    logits = {"hybrid": p.mix(p.quantum), "classical": p.classical, "ablated": p.mix(mean_q)}
    loss = {n: -x.log_softmax(-1)[rows, p.targets] for n, x in logits.items()}
    differences = {
        "quantum_ablation": loss["ablated"] - loss["hybrid"],
        "hybrid_minus_classical": loss["hybrid"] - loss["classical"],
    }
    got = evaluate(student, examples)
    for name, difference in differences.items():
        mean = float(difference.mean())
        answers = difference.split([n_answer(example) for example in examples])
        squares = sum(float((a - mean).sum()) ** 2 for a in answers)
        error = math.sqrt(squares * len(answers) / (len(answers) - 1)) / len(difference)
        assert got[f"eval/{name}"] == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert got[f"eval/{name}_se"] == pytest.approx(error, rel=1e-3)
    alone = evaluate(student, examples[:1])
    assert "eval/quantum_ablation" in alone
    assert "eval/quantum_ablation_se" not in alone


@pytest.mark.parametrize("bias", [math.nan, math.inf, 1e9])
def test_a_loss_that_means_nothing_is_an_error(make_student, examples, bias) -> None:
    student = make_student()
    with torch.no_grad():
        student.head.quantum.up.bias[0] = bias
    with pytest.raises(TrainingError, match=r"the held-out .* loss is .*: training has diverged"):
        evaluate(student, examples)


def test_a_constant_quantum_pathway_has_an_ablation_of_zero(make_student, examples) -> None:
    student = make_student()
    torch.nn.init.zeros_(student.head.quantum.up.weight)
    assert evaluate(student, examples)["eval/quantum_ablation"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_shares_of_the_variance_add_up_to_one(make_student, examples, mixing) -> None:
    student = make_student(mixing=mixing)
    p = plain(student, examples)
    quantum, classical = p.quantum, p.classical
    if mixing == "probability":
        quantum, classical = quantum.softmax(-1), classical.softmax(-1)
    quantum, classical = (1 - p.alpha) * quantum, p.alpha * classical
    whole = quantum + classical

    def covariance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(((a - a.mean(-1, keepdim=True)) * (b - b.mean(-1, keepdim=True))).sum())

    share_q = covariance(quantum, whole) / covariance(whole, whole)
    share_c = covariance(classical, whole) / covariance(whole, whole)
    got = evaluate(student, examples)["model/quantum_contribution"]
    assert share_q + share_c == pytest.approx(1)
    assert 0.01 < share_q < 0.99
    assert got == pytest.approx(share_q, rel=1e-4)
    assert got == pytest.approx(1 - share_c, rel=1e-4)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize(("alpha_logit", "share"), [(40.0, 0.0), (-40.0, 1.0)])
def test_at_either_end_one_pathway_has_all_of_the_variance(
    make_student, examples, mixing, alpha_logit, share
) -> None:
    student = make_student(mixing=mixing)
    torch.nn.init.constant_(student.head.alpha_logit, alpha_logit)
    got = evaluate(student, examples)["model/quantum_contribution"]
    assert got == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_kl_over_the_whole_vocabulary(make_student, examples, mixing) -> None:
    student, example = make_student(mixing=mixing), examples[1]
    log_p = teacher_log_p(n_answer(example)).double()
    p = plain(student, [example])
    log_q = p.mix(p.quantum).log_softmax(-1)
    expected = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    got = evaluate(student, [with_teacher(example, log_p, [V] * len(log_p))])
    assert got["eval/kl_to_teacher"] == pytest.approx(expected, rel=1e-4)
    assert got["eval/kl_tokens"] == n_answer(example)


def bucketed_kl(log_p: torch.Tensor, log_q: torch.Tensor, k: int) -> torch.Tensor:
    """KL of each row over the k most likely tokens of p and the sum of all others."""
    ids = log_p.argsort(-1, descending=True)
    p, q = (x.double().exp().gather(-1, ids) for x in (log_p, log_q))
    p = torch.cat([p[:, :k], p[:, k:].sum(-1, keepdim=True)], 1)
    q = torch.cat([q[:, :k], q[:, k:].sum(-1, keepdim=True)], 1)
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(-1)


def test_kl_with_a_tail_bucket_on_the_answers_that_have_it(make_student, examples) -> None:
    """Answer 0 has none, answer 1 for each of its tokens, answer 2 for all but end-of-text."""
    student, k = make_student(), 5
    rows = [n_answer(examples[1]), n_answer(examples[2]) - 1]
    log_p = [teacher_log_p(count, seed) for seed, count in enumerate(rows)]
    held_out = [examples[0]]
    held_out += [
        with_teacher(example, p, [k] * count)
        for example, p, count in zip(examples[1:3], log_p, rows, strict=True)
    ]
    p = plain(student, held_out)
    first = n_answer(examples[0])
    log_q = p.mix(p.quantum).log_softmax(-1)[first : first + sum(rows)]
    expected = bucketed_kl(torch.cat(log_p), log_q, k)
    got = evaluate(student, held_out)
    assert got["eval/kl_tokens"] == sum(rows)
    assert got["eval/kl_to_teacher"] == pytest.approx(float(expected.mean()), rel=1e-4)


# 1 minus a sum of float32 probabilities would be nothing but rounding.
def test_kl_of_a_student_that_is_almost_certain(make_student, examples) -> None:
    student, example, k = make_student(), examples[1], 20
    torch.nn.init.constant_(student.head.alpha_logit, 40.0)
    with torch.no_grad():
        student.head.classical.decoder.weight.mul_(8)
    p = plain(student, [example])
    log_q = p.classical.log_softmax(-1)
    # The teacher's favourites are the student's, but it is less certain of them.
    log_p = (0.5 * log_q).log_softmax(-1)
    expected = float(bucketed_kl(log_p, log_q, k).mean())
    got = evaluate(student, [with_teacher(example, log_p, [k] * len(log_p))])
    assert got["eval/kl_to_teacher"] == pytest.approx(expected, rel=1e-3)


def kl_of_top(log_p: torch.Tensor, log_q: torch.Tensor, k: int) -> torch.Tensor:
    """`top_k_kl` of the k most likely tokens of p."""
    ids = log_p.argsort(-1, descending=True)[:, :k]
    return top_k_kl(log_p.gather(1, ids), log_q.gather(1, ids))


log_weights = st.lists(st.floats(-12, 12), min_size=2, max_size=12)


@given(p=log_weights, q=log_weights, data=st.data())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_kl_is_never_negative_nor_more_than_without_the_bucket(p, q, data) -> None:
    size = min(len(p), len(q))
    log_p, log_q = (torch.tensor([x[:size]]).double().log_softmax(-1) for x in (p, q))
    k = data.draw(st.integers(1, size))
    kl = kl_of_top(log_p, log_q, k)
    whole = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert -1e-9 <= kl.item() <= whole.item() + 1e-6
    torch.testing.assert_close(kl, bucketed_kl(log_p, log_q, k), rtol=1e-6, atol=1e-6)
    assert abs(kl_of_top(log_p, log_p, k).item()) < 1e-9


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (3, 2), (7, 3), (256, 1)])
def test_chunks_and_batches_do_not_change_a_number(
    make_student, examples, monkeypatch, mixing, rows, batch
) -> None:
    student = make_student(mixing=mixing)
    held_out = [
        with_teacher(example, teacher_log_p(n_answer(example)), [4] * n_answer(example))
        for example in examples
    ]
    expected = evaluate(student, held_out)
    monkeypatch.setattr(metrics, "ROWS_PER_CHUNK", rows)
    monkeypatch.setattr(metrics, "EXAMPLES_PER_BATCH", batch)
    assert evaluate(student, held_out) == pytest.approx(expected, rel=1e-4, abs=1e-5)


# The metric must not depend on which rows happen to share a chunk.
def test_a_teacher_with_differing_k_is_not_cut_to_the_least_of_a_chunk(
    make_student, examples, monkeypatch
) -> None:
    student, example = make_student(), examples[3]
    widths = [1 + i % 6 for i in range(n_answer(example))]
    held_out = [with_teacher(example, teacher_log_p(len(widths)), widths)]
    whole = evaluate(student, held_out)["eval/kl_to_teacher"]
    monkeypatch.setattr(metrics, "ROWS_PER_CHUNK", 1)
    assert evaluate(student, held_out)["eval/kl_to_teacher"] == pytest.approx(whole, rel=1e-4)


def test_answers_together_are_the_token_weighted_mean_of_answers_alone(
    make_student, examples
) -> None:
    student = make_student()
    together = evaluate(student, examples)
    alone = [evaluate(student, [example]) for example in examples]
    for name in ("hybrid", "classical", "quantum"):
        weighted = sum(m[f"eval/{name}_loss"] * m["eval/tokens"] for m in alone)
        mean = weighted / together["eval/tokens"]
        assert together[f"eval/{name}_loss"] == pytest.approx(mean, rel=1e-5)


def test_evaluating_changes_nothing(make_student, examples) -> None:
    student = make_student()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert evaluate(student, examples) == evaluate(student, examples)
    assert all(torch.equal(before[name], t) for name, t in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_coherence_and_entanglement_are_means_over_rows_and_both_circuits(
    make_student, examples
) -> None:
    """Two qubits a, b, c, d: Shannon entropy over 2 bits; Q is the squared concurrence."""
    student = make_student(n_qubits=2, n_layers=2)
    quantum = student.head.quantum
    with torch.no_grad():
        rows = answer_rows(student, examples)
        g = student.head.classical.norm(rows.hidden)
        angles = math.pi * torch.tanh(quantum.down(g))
        states = [
            quantum.circuit1.final_state(angles),
            quantum.circuit2.final_state(math.pi * quantum.circuit1(angles)),
        ]
        got = quantum_state_metrics(student.head, rows)
    a, b, c, d = torch.cat(states).double().unbind(-1)
    bits = torch.special.entr(torch.cat(states).double().square()).sum(-1) / math.log(2)
    assert got["train/quantum_coherence"] == pytest.approx(float(bits.mean()) / 2, rel=1e-4)
    concurrence = 2 * (a * d - b * c).abs()
    expected = float(concurrence.square().mean())
    assert got["train/quantum_entanglement"] == pytest.approx(expected, rel=1e-4)
    assert 0 < got["train/quantum_entanglement"] < 1


@given(h=st.floats(0, 11), c=st.floats(0, 11))
@settings(derandomize=True, deadline=None)
def test_hybrid_performance_is_symmetric_and_in_its_range(h, c) -> None:
    value = hybrid_performance(h, c)
    assert 0 <= value <= 1
    assert value == hybrid_performance(c, h)
    assert hybrid_performance(h, h) == 1


def test_hybrid_performance_of_known_entropies() -> None:
    assert hybrid_performance(2.0, 4.0) == 0.5
    assert hybrid_performance(0.0, 0.0) == 1.0
    assert hybrid_performance(0.0, 3.0) == 0.0
