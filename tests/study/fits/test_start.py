"""The common start of all arms: frequencies of words, and `up` around them."""

from __future__ import annotations

import pytest
import torch

from quantum_hybrid.study.arms import ARMS, Shape
from quantum_hybrid.study.fits.fit import Contender, Settings
from quantum_hybrid.study.fits.readouts import Readouts
from quantum_hybrid.study.fits.start import PRIORS, Calibration, log_frequencies

WORDS = 60


def drawn(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens from a distribution that falls as 1 / rank, and its logarithm."""
    truth = (1 / torch.arange(1, WORDS + 1, dtype=torch.float64)).log().log_softmax(0)
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(truth.exp(), n, replacement=True, generator=generator), truth


def test_frequencies_are_probabilities_near_the_counts_of_a_long_text() -> None:
    tokens, truth = drawn(100_000, 0)
    found = log_frequencies(tokens, torch.full((WORDS,), 1 / WORDS, dtype=torch.float64))
    assert found.exp().sum().item() == pytest.approx(1)
    assert (truth.exp() * (truth - found)).sum() < 0.001


def test_a_word_that_was_not_seen_keeps_its_expected_share_of_the_prior() -> None:
    tokens = torch.zeros(500, dtype=torch.int64)
    expected = torch.full((WORDS,), 1 / WORDS, dtype=torch.float64)
    found = log_frequencies(tokens, expected).exp()
    assert (found[1:] == found[1]).all()
    assert found[1].item() == pytest.approx(PRIORS[0] / WORDS / (500 + PRIORS[0]))


def test_a_good_expectation_counts_for_more_tokens_than_a_bad_one() -> None:
    tokens, truth = drawn(300, 1)
    bad = truth.exp().flip(0)

    def loss(expected: torch.Tensor) -> float:
        return float(-(truth.exp() * log_frequencies(tokens, expected)).sum())

    best = float(-(truth.exp() * truth).sum())
    assert best < loss(truth.exp()) < best + 0.02
    assert loss(bad) > loss(truth.exp()) + 0.02


def test_every_arm_alone_starts_at_the_frequencies_of_the_training_text() -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(512, 12, generator=generator)
    decoder = torch.randn(WORDS, 12, generator=generator)
    tokens, _ = drawn(50_000, 3)
    calibration = Calibration(g, g, decoder)
    shape, settings = Shape(3, 2), Settings(0.01, 0.1, 0.1, 0.1)
    start, arms = calibration.start(3), ("nothing", "ring")

    def begun(targets: torch.Tensor | None) -> Readouts:
        contenders = [Contender(ARMS[name], settings, start, shape, 0) for name in arms]
        return calibration.readouts(contenders, None, targets)

    readouts, other = begun(tokens), begun(None)
    own = log_frequencies(tokens, (g @ decoder.T).softmax(-1).double().mean(0)).float()
    torch.testing.assert_close(readouts.biases[0].detach(), own)
    # Those of the ring differ from these by what the discriminant adds, which the text does not
    # change.
    shift = readouts.biases[0] - other.biases[0]
    torch.testing.assert_close(readouts.biases[1] - other.biases[1], shift, atol=1e-4, rtol=1e-4)
