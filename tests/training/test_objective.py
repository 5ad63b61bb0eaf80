"""The one-pass losses against the plain formulas: values, gradients and parts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads import ROWS, VOCABULARY, assert_equal, batch, gradients, head
from quantum_hybrid.distillation import top_k_kl
from quantum_hybrid.evaluation import ablated_logits
from quantum_hybrid.student import HybridHead
from quantum_hybrid.student.head import Mixing
from quantum_hybrid.text.encoder import IGNORED
from quantum_hybrid.training import Losses, three_part_loss
from quantum_hybrid.training.head_pass import one_pass as passes
from quantum_hybrid.training.head_pass import sweeps
from quantum_hybrid.training.head_pass.compiled_sweeps import CompiledSweeps
from quantum_hybrid.training.head_pass.one_pass import LogProbabilities, one_pass

MIXINGS: tuple[Mixing, ...] = ("logits", "probability")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def losses_of(hybrid: HybridHead, hidden: Tensor, targets: Tensor) -> Losses:
    return three_part_loss(hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7)


def plain(hybrid: HybridHead, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = hybrid(hidden)
    pathways = 0.5 * F.cross_entropy(logits.classical, targets)
    pathways = pathways + 0.7 * F.cross_entropy(logits.quantum, targets)
    return F.cross_entropy(logits.hybrid, targets) + pathways


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["compiled", "torch"])
@pytest.mark.parametrize(
    "given", [{}, {"bias": True, "n_qubits": 5}, {"rows_at_a_time": 16}], ids=str
)
def test_values_and_gradients_are_those_of_the_plain_formula(
    monkeypatch, mixing, dtype, given
) -> None:
    given = dict(given)
    if rows := given.pop("rows_at_a_time", None):
        monkeypatch.setattr(passes, "CHUNK_NUMBERS", rows * VOCABULARY)
    hybrid, (hidden, targets) = head(mixing, dtype, **given), batch(dtype)
    expected, got = plain(hybrid, hidden, targets), losses_of(hybrid, hidden, targets).objective
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    assert_equal(gradients(got, hybrid, hidden), gradients(expected, hybrid, hidden), tolerance)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_each_row_has_its_four_losses(mixing) -> None:
    hybrid, (hidden, targets) = head(mixing), batch()
    losses = losses_of(hybrid, hidden, targets)
    with torch.no_grad():
        logits = hybrid(hidden)
        ablated = ablated_logits(hybrid, logits.classical, logits.z.mean(0))
    pairs = [
        (losses.hybrid, logits.hybrid),
        (losses.classical, logits.classical),
        (losses.quantum, logits.quantum),
        (losses.ablated, ablated),
    ]
    for got, predicted in pairs:
        expected = F.cross_entropy(predicted, targets, reduction="none")
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-5)
        assert not got.requires_grad
    assert not torch.allclose(losses.ablated, losses.hybrid, atol=1e-3)


def in_float64(hybrid: HybridHead, hidden: Tensor) -> tuple[HybridHead, Tensor]:
    """The same head and rows, exactly."""
    return copy.deepcopy(hybrid).double(), hidden.detach().double().requires_grad_()


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("alpha_logit", [-200.0, -10.0, 10.0, 200.0])
def test_it_is_exact_at_the_ends_of_the_mixture(mixing, alpha_logit) -> None:
    """At 200 one of the weights underflows in float32."""
    hybrid, (hidden, targets) = head(mixing), batch()
    nn.init.constant_(hybrid.alpha_logit, alpha_logit)
    objective = losses_of(hybrid, hidden, targets).objective
    reference, exact_hidden = in_float64(hybrid, hidden)
    exact = plain(reference, exact_hidden, targets)
    torch.testing.assert_close(objective.double(), exact, rtol=0, atol=1e-5)
    got = gradients(objective, hybrid, hidden)
    expected = gradients(exact, reference, exact_hidden)
    # By alpha it is next to nothing here, a difference of numbers of the size of a loss.
    by_alpha, exactly = got.pop("alpha_logit"), expected.pop("alpha_logit")
    torch.testing.assert_close(by_alpha.double(), exactly, rtol=1e-5, atol=1e-6)
    assert_equal(got, expected, 1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("log_scale", [4.0, 9.0])
def test_exponentials_that_are_no_float32_are_not_taken(mixing, log_scale) -> None:
    hybrid, (hidden, targets) = head(mixing), batch()
    nn.init.constant_(hybrid.classical.log_scale, log_scale)
    objective = losses_of(hybrid, hidden, targets).objective
    assert objective.item() > 88
    exact = plain(*in_float64(hybrid, hidden), targets)
    torch.testing.assert_close(objective.double(), exact, rtol=1e-5, atol=0)
    assert all(g.isfinite().all() for g in gradients(objective, hybrid, hidden).values())


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["compiled", "torch"])
def test_the_gradient_is_the_slope_of_the_value(mixing, dtype) -> None:
    """A directional derivative in all parameters, in float64, without the plain formula."""
    hybrid, (hidden, targets) = head(mixing, dtype, bias=True), batch(dtype)
    found = gradients(losses_of(hybrid, hidden, targets).objective, hybrid, hidden)
    exact, rows = in_float64(hybrid, hidden)
    named = dict(exact.named_parameters()) | {"hidden": rows}
    generator = torch.Generator().manual_seed(3)
    ways = {
        name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in named.items()
    }
    slope = sum(float((found[name] * ways[name]).sum()) for name in named)
    values, step = [], 1e-5
    with torch.no_grad():
        for sign in (1, -2):  # there, and back past where it was
            for name, parameter in named.items():
                parameter.add_(ways[name], alpha=sign * step)
            values.append(losses_of(exact, rows, targets).objective.item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_decoder_that_is_the_embedding_too_gets_both_gradients(mixing) -> None:
    hybrid, (_, targets) = head(mixing), batch()
    embedding, found = hybrid.classical.decoder.weight, []
    for objective in (plain, lambda *given: losses_of(*given).objective):
        hidden = F.embedding(targets.flip(0), embedding)
        found.append(torch.autograd.grad(objective(hybrid, hidden, targets), embedding)[0])
    assert_equal({"weight": found[1]}, {"weight": found[0]}, 1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_same_again_is_the_same_to_the_last_digit(mixing) -> None:
    hybrid, (hidden, targets) = head(mixing, bias=True), batch()
    found = []
    for _ in range(2):
        losses = losses_of(hybrid, hidden, targets)
        values = {"objective": losses.objective, "hybrid": losses.hybrid}
        found.append(values | gradients(losses.objective, hybrid, hidden))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["compiled", "torch"])
def test_memory_may_lie_in_any_order(dtype) -> None:
    hybrid, (hidden, targets) = head("logits", dtype), batch(dtype)
    expected = losses_of(hybrid, hidden, targets)
    by_expected = gradients(expected.objective, hybrid, hidden)
    decoder = hybrid.classical.decoder
    decoder.weight = nn.Parameter(decoder.weight.detach().T.contiguous().T)
    turned = hidden.detach().T.contiguous().T.requires_grad_()
    every_second = torch.stack([targets, targets], 1)[:, 1]
    losses = losses_of(hybrid, turned, every_second)
    torch.testing.assert_close(losses.objective, expected.objective)
    assert_equal(gradients(losses.objective, hybrid, turned), by_expected, TOLERANCE[dtype])


def test_rows_without_a_target_are_refused() -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    for unknown in (IGNORED, VOCABULARY):
        targets[5] = unknown
        with pytest.raises(
            ValueError, match=rf"tokens .*{unknown}.* allowed: 0 to 2499; leave out"
        ):
            losses_of(hybrid, hidden, targets)
    with pytest.raises(ValueError, match="hidden has 37 rows, listed 36"):
        passes._check(hidden, targets[1:, None], VOCABULARY)  # Annotations say so only in tests.
    with pytest.raises(ValueError, match="hidden has 0 rows, listed 0"):
        losses_of(hybrid, hidden[:0], targets[:0])


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_single_row_is_a_batch(mixing) -> None:
    hybrid, (hidden, targets) = head(mixing), batch(rows=1)
    expected, got = plain(hybrid, hidden, targets), losses_of(hybrid, hidden, targets).objective
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert_equal(gradients(got, hybrid, hidden), gradients(expected, hybrid, hidden), 1e-5)


def test_under_autocast_nothing_is_done_in_half_precision() -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    half = hidden.detach().bfloat16().requires_grad_()
    same = half.detach().float().requires_grad_()
    expected = losses_of(hybrid, same, targets).objective
    with torch.autocast("cpu", torch.bfloat16):
        objective = losses_of(hybrid, half, targets).objective
    assert objective.dtype == torch.float32
    assert torch.equal(objective, expected)
    got, exact = gradients(objective, hybrid, half), gradients(expected, hybrid, same)
    assert got.pop("hidden").dtype == torch.bfloat16
    assert all(torch.equal(got[name], exact[name]) for name in got)
    with pytest.raises(TypeError, match=r"weights is torch\.bfloat16"):
        losses_of(hybrid.bfloat16(), half, targets)


def test_in_inference_mode_there_are_values() -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    expected = losses_of(hybrid, hidden, targets)
    with torch.inference_mode():
        losses = losses_of(hybrid, hidden, targets)
    assert torch.equal(losses.objective, expected.objective)
    assert torch.equal(losses.ablated, expected.ablated)


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same() -> None:
    hybrid, (hidden, targets) = head("logits", bias=True), batch()
    hybrid.classical.decoder.requires_grad_(False)
    hybrid.quantum.up.requires_grad_(False)
    objective = losses_of(hybrid, hidden, targets).objective
    got = gradients(objective, hybrid, hidden)
    assert not any("decoder" in name or "up." in name for name in got)
    assert_equal(got, gradients(plain(hybrid, hidden, targets), hybrid, hidden), 1e-5)
    with torch.no_grad():
        again = losses_of(hybrid, hidden, targets).objective
    assert torch.equal(again, objective)
    assert not again.requires_grad


def test_no_digit_depends_on_the_threads(monkeypatch) -> None:
    found = []
    generator = torch.Generator().manual_seed(0)
    chunk, readout = (torch.randn(9000, n, generator=generator) for n in (32, 4))
    points, factors = (torch.randn(*n, generator=generator) for n in ((32, 4), (4, 32)))
    mixture = sweeps.Mixture(torch.tensor([0.6, 0.8]), True)
    for n in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n: n)
        by_chunk, by_readout = chunk.clone(), torch.zeros_like(readout)
        sweep = CompiledSweeps(by_chunk, readout, points, mixture)
        normalisers = sweep.normalisers(readout[:, 0].contiguous())
        rest = sweep.differentiate(normalisers, factors, by_readout)
        found.append((normalisers, by_chunk, by_readout, *rest))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_exponentials_are_right_to_the_last_digits() -> None:
    """A softmax whose logarithm of the sum is called 0: what is left are exponentials."""
    x = torch.linspace(-100, 20, 32 * 5000).view(5000, 32)
    chunk, readout, points = x.clone(), torch.zeros(5000, 2), torch.zeros(32, 2)
    factors = torch.zeros(4, 32).index_fill_(0, torch.tensor(0), 1)
    sweep = CompiledSweeps(chunk, readout, points, sweeps.Mixture(torch.ones(2), False))
    sweep.differentiate(torch.zeros(4, 32), factors, torch.zeros(5000, 2))
    expected = x.double().clamp_min(-87).exp()
    torch.testing.assert_close(chunk.double(), expected, rtol=3e-7, atol=0)


def test_the_gradient_scales_with_what_comes_from_above_and_is_taken_once() -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    (once,) = torch.autograd.grad(losses_of(hybrid, hidden, targets).objective, hidden)
    objective = losses_of(hybrid, hidden, targets).objective
    (thrice,) = torch.autograd.grad(3 * objective, hidden, retain_graph=True)
    torch.testing.assert_close(thrice, 3 * once)
    with pytest.raises(RuntimeError, match="already taken"):
        torch.autograd.grad(objective, hidden)
    objective = losses_of(hybrid, hidden, targets).objective
    with pytest.raises(RuntimeError, match="a second derivative is not"):
        torch.autograd.grad(objective, hidden, create_graph=True)


@pytest.mark.parametrize("part", ["decoder", "up"])
def test_a_nan_is_not_hidden(part) -> None:
    hybrid, (hidden, targets) = head("logits"), batch()
    layer = hybrid.classical.decoder if part == "decoder" else hybrid.quantum.up
    with torch.no_grad():
        layer.weight[7] = math.nan
    assert losses_of(hybrid, hidden, targets).objective.isnan()


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_teachers_top_k_with_a_bucket_for_the_rest_is_a_loss_of_listed_tokens(mixing) -> None:
    """sum_k p_k log(p_k / q_k) + rest log(rest / rest'), the target listed among the k as well."""
    hybrid, (hidden, _) = head(mixing, torch.float64), batch(torch.float64)
    generator = torch.Generator().manual_seed(2)
    teacher = 3 * torch.randn(ROWS, VOCABULARY, generator=generator, dtype=torch.float64)
    log_p, ids = teacher.log_softmax(-1).topk(8)
    targets = ids[:, 2].contiguous()

    def objective(of_listed: LogProbabilities, rows: slice) -> Tensor:
        kl = top_k_kl(log_p[rows], of_listed.hybrid[:, 1:])
        return (0.3 * kl - of_listed.hybrid[:, 0] - 0.5 * of_listed.quantum[:, 0]).sum()

    value, found = one_pass(hybrid, hidden, torch.cat([targets[:, None], ids], 1), objective)
    logits = hybrid(hidden)
    log_q = logits.hybrid.log_softmax(-1).gather(1, ids)
    expected = 0.3 * top_k_kl(log_p, log_q).sum()
    expected = expected + F.cross_entropy(logits.hybrid, targets, reduction="sum")
    expected = expected + 0.5 * F.cross_entropy(logits.quantum, targets, reduction="sum")
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(found.hybrid[:, 1:], log_q.detach())
    got = gradients(value, hybrid, hidden)
    assert_equal(got, gradients(expected, hybrid, hidden), 1e-11)


def test_no_tensor_of_all_rows_and_words_exists(monkeypatch) -> None:
    shapes, real = [], sweeps.sweeps_over

    def watched(classical, *arguments):
        shapes.append(tuple(classical.shape))
        return real(classical, *arguments)

    monkeypatch.setattr(passes, "sweeps_over", watched)
    monkeypatch.setattr(passes, "CHUNK_NUMBERS", 70 * VOCABULARY)
    losses_of(head("logits"), *batch(rows=200))
    assert shapes == [(VOCABULARY, 64)] * 3 + [(VOCABULARY, 16)]
