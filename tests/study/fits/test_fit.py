"""Contenders in training: on a planted task, side by side, and reproducible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantum_hybrid.study.arms import ARMS, Shape
from quantum_hybrid.study.fits.fit import BATCH_ROWS, Contender, Fit, Rows, Settings, batches
from quantum_hybrid.study.fits.start import Calibration, Recalibrated

N_ROWS, N_WORDS, D_MODEL = 2048, 40, 12
SHAPE = Shape(n=3, n_layers=2)
UNTOUCHED = Recalibrated(torch.zeros(N_WORDS), torch.zeros(()))
SETTINGS = Settings(up_rate=0.05, down_rate=0.25, map_rate=0.03, spread=0.2)


@pytest.fixture(scope="module")
def task() -> tuple[Rows, torch.Tensor]:
    """Rows whose next token depends on three directions of g, and a decoder."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(N_ROWS, D_MODEL, generator=generator)
    decoder = torch.randn(N_WORDS, D_MODEL, generator=generator)
    decoder[:, 3:] *= 0.05
    targets = torch.multinomial((g @ decoder.T).softmax(-1), 1, generator=generator)[:, 0]
    prompts = torch.arange(N_ROWS) // 16
    return Rows(g, targets, prompts, features=0.5 * g), decoder


Task = tuple[Rows, torch.Tensor]


def trained(
    task: Task, names: list[str], *, beside: bool, settings: Settings = SETTINGS
) -> tuple[Fit, torch.Tensor]:
    rows, decoder = task
    assert rows.features is not None
    calibration = Calibration(rows.g[:512], rows.features[:512], decoder)
    start = calibration.start(SHAPE.n)
    contenders = [Contender(ARMS[name], settings, start, SHAPE, seed=0) for name in names]
    readouts = calibration.readouts(contenders, UNTOUCHED if beside else None)
    seen = rows if beside else Rows(rows.g, rows.targets, rows.prompts)
    order = batches(len(rows), 4, torch.Generator().manual_seed(0))
    fit = Fit(contenders, readouts, decoder, n_steps=len(order))
    losses = torch.stack([fit.step(seen[numbers]) for numbers in order])
    fit.settle(rows.g)
    return fit, losses


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_training_lowers_the_loss_of_arms_that_see_g(task, beside) -> None:
    _, losses = trained(task, ["identity", "ring", "nothing", "shuffled"], beside=beside)
    first, last = losses[:4].mean(0), losses[-16:].mean(0)  # Of an epoch.
    assert (last[:2] < first[:2] - 0.02).all()
    # What does not see g learns no more than the frequencies of tokens.
    assert (last[:2] < last[2:].min() - 0.02).all()


@pytest.mark.parametrize("name", ["identity", "ring", "frozen random", "polynomial"])
def test_every_arm_begins_with_numbers_of_the_same_scale(task, name) -> None:
    fit, _ = trained(task, [name], beside=False)
    contender = fit.contenders[0]
    contender.begin(task[0].g)
    z = contender(task[0].g).double()
    assert z.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(z.T.cov(), torch.eye(SHAPE.n).double(), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["identity", "ring", "no entangler"])
def test_which_rates_are_good_does_not_depend_on_the_spread(task, name) -> None:
    """Or a tuning would have to find, for each spread, rates of its own."""
    one, two = (
        trained(task, [name], beside=False, settings=replace(SETTINGS, map_rate=0.01, spread=s))[1]
        for s in (0.0005, 0.002)
    )
    torch.testing.assert_close(one, two, rtol=2e-3, atol=0)
    assert one[-1] < one[0] - 0.02


def test_a_circuit_whose_angles_hardly_spread_is_a_linear_map(task) -> None:
    """Whitened, it is the identity but for a rotation, which `up` undoes at the start."""
    narrow = replace(SETTINGS, map_rate=0.01, spread=0.002)
    _, losses = trained(
        task, ["identity", "ring", "chain", "fourier"], beside=False, settings=narrow
    )
    torch.testing.assert_close(losses[0], losses[0, :1].expand(4), rtol=2e-3, atol=0)
    wide = replace(narrow, spread=1.0)
    _, losses = trained(task, ["identity", "ring"], beside=False, settings=wide)
    assert losses[0, 1] > losses[0, 0] + 0.01


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_what_is_shuffled_is_worth_nothing(task, beside) -> None:
    fit, _ = trained(task, ["nothing", "shuffled"], beside=beside)
    nothing, shuffled = fit.prompt_losses(task[0], N_ROWS // 16).sum(1) / N_ROWS
    assert shuffled > nothing - 0.002


def test_a_map_that_moves_does_not_shift_what_up_reads(task) -> None:
    """In training the mean is the batch's, afterwards that of the rows that settle it."""
    fit, _ = trained(task, ["ring"], beside=False)
    (contender,), g = fit.contenders, task[0].g
    with torch.no_grad():
        next(contender.map.parameters()).add_(0.3)
    assert contender(g).mean(0).abs().max() > 0.05
    assert contender.train()(g[:256]).mean(0).abs().max() < 1e-4
    contender.settle(g)
    assert contender(g).mean(0).abs().max() < 1e-4


def test_a_word_without_gradient_hardly_moves(task) -> None:
    """Adam with its usual epsilon would move it by the whole rate."""
    rows, decoder = task
    calibration = Calibration(rows.g[:512], rows.features[:512], decoder)
    contender = Contender(ARMS["identity"], SETTINGS, calibration.start(SHAPE.n), SHAPE, seed=0)
    readouts = calibration.readouts([contender], None)
    absent = rows.targets == 5
    with torch.no_grad():
        readouts.biases[0][5] = -15
    before = readouts.biases[0].detach().clone()
    fit = Fit([contender], readouts, decoder, n_steps=1)
    fit.step(Rows(rows.g, rows.targets, rows.prompts)[(~absent).nonzero()[:BATCH_ROWS, 0]])
    moved = (readouts.biases[0] - before).abs()
    assert 0 < moved[5] < 0.01 * moved.max()


def test_beside_every_arm_starts_as_the_classical_pathway(task) -> None:
    given, decoder = task
    _, losses = trained(task, ["identity", "ring"], beside=True)
    order = batches(len(given), 4, torch.Generator().manual_seed(0))[0]
    logits = given.features[order] @ decoder.T
    expected = torch.nn.functional.cross_entropy(logits, given.targets[order])
    torch.testing.assert_close(losses[0], expected.expand(2))


def test_a_contender_does_not_depend_on_the_others(task) -> None:
    alone = trained(task, ["ring"], beside=False)[1]
    among = trained(task, ["identity", "ring", "mlp"], beside=False)[1]
    torch.testing.assert_close(among[:, 1], alone[:, 0], rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits(task) -> None:
    one, two = (trained(task, ["ring", "fourier"], beside=True)[1] for _ in range(2))
    assert torch.equal(one, two)


def test_the_losses_of_prompts_are_sums_over_their_rows(task) -> None:
    fit, _ = trained(task, ["identity"], beside=True)
    given, decoder = task
    sums = fit.prompt_losses(given, N_ROWS // 16)
    z = fit.contenders[0](given.g)
    weights, bias = fit.readouts.weights[0][:, : SHAPE.n], fit.readouts.biases[0]
    scale = fit.readouts.log_scales[0].exp()
    logits = scale * (given.features @ decoder.T) + z @ weights.T + bias
    losses = torch.nn.functional.cross_entropy(logits, given.targets, reduction="none")
    torch.testing.assert_close(sums[0], losses.view(-1, 16).sum(1).double(), rtol=1e-4, atol=1e-4)


def test_every_epoch_has_an_order_of_its_own_and_every_row_once() -> None:
    n = 2 * BATCH_ROWS
    parts = batches(n + 10, 2, torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [BATCH_ROWS] * 4
    first, second = torch.cat(parts[:2]), torch.cat(parts[2:])
    assert len(first.unique()) == len(second.unique()) == n
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match=f"at least {BATCH_ROWS} are needed"):
        batches(BATCH_ROWS - 1, 2, torch.Generator())
