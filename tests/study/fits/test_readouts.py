"""Losses and gradients of many readouts against torch in double precision."""

from __future__ import annotations

from functools import partial
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quantum_hybrid.study.fits.readouts import Readouts
from quantum_hybrid.study.fits.readouts.readouts import classical_logits

N_ARMS = 3


def case(n_words: int, n_rows: int, n: int, with_classical: bool):
    generator = torch.Generator().manual_seed(n_words + n_rows + n)
    readouts = Readouts(N_ARMS, n_words, n)
    for arm in range(N_ARMS):
        weights = torch.randn(n_words, n, generator=generator)
        readouts.set_arm(arm, weights, torch.randn(n_words, generator=generator))
        torch.nn.init.constant_(readouts.log_scales[arm], 0.2 * arm)
    points = torch.rand(N_ARMS, n_rows, n, generator=generator) * 2 - 1
    targets = torch.randint(n_words, (n_rows,), generator=generator)
    features = torch.randn(n_rows, 5, generator=generator) if with_classical else None
    decoder = torch.randn(n_words, 5, generator=generator)
    return readouts, points, targets, features, decoder


def reference(readouts: Readouts, points: Tensor, targets: Tensor, c: Tensor | None):
    """Losses (arms, rows) in double precision, and gradients by points, U, b, t."""
    n = points.shape[-1]
    leaves = [points.double(), torch.stack([w[:, :n] for w in readouts.weights]).double()]
    leaves += [torch.stack(list(part)).double() for part in (readouts.biases, readouts.log_scales)]
    z, u, b, t = (leaf.detach().requires_grad_() for leaf in leaves)
    logits = z @ u.mT + b[:, None]
    if c is not None:
        logits = logits + t.exp()[:, None, None] * c.double()
    expanded = targets.expand(N_ARMS, -1)
    losses = F.cross_entropy(logits.flatten(0, 1), expanded.flatten(), reduction="none")
    losses = losses.view(N_ARMS, -1)
    gradients = torch.autograd.grad(losses.mean(1).sum(), (z, u, b, t), allow_unused=True)
    return losses.detach(), gradients


def gradient(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Of all arms' parameters, in double precision."""
    return torch.stack([cast(Tensor, parameter.grad) for parameter in parameters]).double()


@pytest.mark.parametrize("with_classical", [False, True], ids=["alone", "beside"])
@pytest.mark.parametrize(("n_words", "n_rows", "n"), [(64, 32, 8), (50, 7, 3), (531, 35, 11)])
def test_losses_and_gradients_are_torchs(n_words, n_rows, n, with_classical) -> None:
    readouts, points, targets, features, decoder = case(n_words, n_rows, n, with_classical)
    c = None if features is None else features @ decoder.T
    given = None if features is None else classical_logits(features, decoder)
    losses, gradients = reference(readouts, points, targets, c)
    assert_close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-5)
    assert_close(readouts.losses(points, targets, given).double(), losses)
    found, by_points = readouts.backward(points, targets, given)
    assert_close(found.double(), losses)
    assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)
    assert_close(by_points.double(), gradients[0])
    assert_close(gradient(readouts.weights)[..., :n], gradients[1])
    assert_close(gradient(readouts.biases), gradients[2])
    if with_classical:
        assert_close(gradient(readouts.log_scales), gradients[3])


def test_a_bias_of_the_decoder_is_part_of_c() -> None:
    features, decoder, bias = torch.randn(4, 3), torch.randn(10, 3), torch.randn(10)
    logits = classical_logits(features, decoder, bias)
    torch.testing.assert_close(logits[:10, :4].T, F.linear(features, decoder, bias))


@pytest.mark.parametrize(
    ("points", "targets", "classical"),
    [
        ((N_ARMS, 7, 4), [0] * 7, None),
        ((N_ARMS, 7, 3), [0] * 6, None),
        ((N_ARMS, 7, 3), [0] * 6 + [50], None),
        ((N_ARMS, 7, 3), [0] * 6 + [-100], None),
        ((N_ARMS, 0, 3), [], None),
        ((N_ARMS, 7, 3), [0] * 7, (50, 16)),  # the words are not filled
        ((N_ARMS, 7, 3), [0] * 7, (56, 7)),  # the rows are not filled
    ],
)
def test_what_the_kernel_would_read_out_of_bounds_is_refused(points, targets, classical) -> None:
    readouts, *_ = case(50, 7, 3, with_classical=False)
    c = None if classical is None else torch.zeros(classical)
    with pytest.raises(ValueError, match=r"allowed|must be from"):
        readouts.losses(torch.zeros(points), torch.tensor(targets, dtype=torch.long), c)


def test_points_in_double_precision_are_refused() -> None:
    readouts, points, targets, *_ = case(50, 7, 3, with_classical=False)
    with pytest.raises(ValueError, match="of float32"):
        readouts.losses(points.double(), targets)


def test_arms_do_not_see_each_other() -> None:
    readouts, points, targets, _, _ = case(40, 16, 4, with_classical=False)
    before = readouts.losses(points, targets)
    torch.nn.init.ones_(readouts.weights[1])
    after = readouts.losses(points, targets)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.equal(after[1], before[1])


def test_logits_far_apart_neither_overflow_nor_lose_the_target() -> None:
    readouts = Readouts(1, 24, 8)
    biases = torch.zeros(24)
    biases[5], biases[7] = 300.0, -300.0
    readouts.set_arm(0, torch.zeros(24, 8), biases)
    losses, by_points = readouts.backward(torch.zeros(1, 2, 8), torch.tensor([5, 7]))
    assert losses[0].tolist() == [0.0, 600.0]
    assert by_points.isfinite().all()
