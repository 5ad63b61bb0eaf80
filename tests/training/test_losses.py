"""The one-pass losses against the plain formulas: values, gradients, and what they are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantum_hybrid.evaluation import ablated_logits, kl_to_teacher
from quantum_hybrid.student import ClassicalHead, HybridHead, QuantumHead
from quantum_hybrid.student.head import Mixing
from quantum_hybrid.training import Losses, sweeps, three_part_loss
from quantum_hybrid.training import one_pass as passes
from quantum_hybrid.training.one_pass import LogProbabilities, one_pass

MIXINGS: tuple[Mixing, ...] = ("logits", "probability")
D_MODEL, VOCABULARY, ROWS = 12, 2500, 37
"""More words than a thread takes at a time, and no multiple of the lanes of anything."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def head(mixing: Mixing, dtype: torch.dtype = torch.float32, **given: Any) -> HybridHead:
    torch.manual_seed(0)
    bias, given = given.pop("bias", False), {"n_qubits": 3} | given
    classical = ClassicalHead(nn.RMSNorm(D_MODEL), D_MODEL, VOCABULARY, decoder_bias=bias)
    quantum = QuantumHead(D_MODEL, VOCABULARY, n_layers=2, **given)
    hybrid = HybridHead(classical, quantum, mixing)
    nn.init.normal_(classical.decoder.weight)
    nn.init.normal_(quantum.up.weight)
    nn.init.normal_(quantum.up.bias)
    nn.init.constant_(classical.log_scale, 0.3)
    nn.init.constant_(hybrid.alpha_logit, 0.4)
    return hybrid.to(dtype)


def batch(dtype: torch.dtype = torch.float32, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = 2 * torch.randn(rows, D_MODEL, generator=generator, dtype=dtype)
    return hidden.requires_grad_(), torch.randint(0, VOCABULARY, (rows,), generator=generator)


def losses_of(hybrid: HybridHead, hidden: Tensor, targets: Tensor) -> Losses:
    return three_part_loss(hybrid, hidden, targets, classical_weight=0.5, quantum_weight=0.7)


def plain(hybrid: HybridHead, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = hybrid(hidden)
    pathways = 0.5 * F.cross_entropy(logits.classical, targets)
    pathways = pathways + 0.7 * F.cross_entropy(logits.quantum, targets)
    return F.cross_entropy(logits.hybrid, targets) + pathways


def gradients(value: Tensor, hybrid: HybridHead, hidden: Tensor) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {n: p for n, p in hybrid.named_parameters() if p.requires_grad}
    named["hidden"] = hidden
    return dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """To a share of each tensor's largest number."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        assert scale > 0, name
        distance = (got[name] - value).abs().max().item()
        assert distance <= tolerance * scale, (name, distance, scale)


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


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("alpha_logit", [-10.0, 10.0])
def test_it_is_exact_at_the_ends_of_the_mixture(mixing, alpha_logit) -> None:
    """And with logits so large that their exponentials are no float32."""
    hybrid, (hidden, targets) = head(mixing), batch()
    nn.init.constant_(hybrid.alpha_logit, alpha_logit)
    nn.init.constant_(hybrid.classical.log_scale, 4.0)
    reference = head(mixing).double()
    reference.load_state_dict(hybrid.state_dict())
    exact = plain(reference, hidden.double(), targets)
    objective = losses_of(hybrid, hidden, targets).objective
    assert objective.item() > 88
    torch.testing.assert_close(objective.double(), exact, rtol=1e-5, atol=0)
    assert all(g.isfinite().all() for g in gradients(objective, hybrid, hidden).values())


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


def test_no_digit_depends_on_the_threads() -> None:
    found, threads = [], torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    chunk, readout = (torch.randn(9000, n, generator=generator) for n in (32, 4))
    points, shares = (torch.randn(*n, generator=generator) for n in ((32, 4), (4, 32)))
    mixture = sweeps.Mixture(torch.tensor([0.6, 0.8]), True)
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            by_chunk, by_readout = chunk.clone(), torch.zeros_like(readout)
            sweep = sweeps.CompiledSweeps(by_chunk, readout, points, mixture)
            normalisers = sweep.normalisers(readout[:, 0].contiguous())
            rest = sweep.differentiate(normalisers, shares, by_readout)
            found.append((normalisers, by_chunk, by_readout, *rest))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))


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
        kl = kl_to_teacher(log_p[rows], of_listed.hybrid[:, 1:])
        return (0.3 * kl - of_listed.hybrid[:, 0] - 0.5 * of_listed.quantum[:, 0]).sum()

    value, found = one_pass(hybrid, hidden, torch.cat([targets[:, None], ids], 1), objective)
    logits = hybrid(hidden)
    log_q = logits.hybrid.log_softmax(-1).gather(1, ids)
    expected = 0.3 * kl_to_teacher(log_p, log_q).sum()
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
