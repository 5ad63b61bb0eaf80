"""Simulated studies of a small made-up world, and what is said about many of them."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.instrument import simulation
from benchmarks.instrument.cases import Case, Outcome, Size
from benchmarks.instrument.simulation import find_kappa, outcomes, simulate
from benchmarks.instrument.summary import Summary
from benchmarks.instrument.world import INITIAL, Teacher, World
from quantum_hybrid.study.arms import SUBJECT, Shape

N_TEXTS, TEXT_ROWS, D_MODEL = 40, 32, 12
SIZE = Size(
    n_words=16,
    unit_rows=5,
    n_training=240,
    n_held_out=12,
    n_seeds=2,
    n_calibration=256,
    shape=Shape(n=3, n_layers=2),
    parts=((2, 6),),
)
AA = Case("A/A", SUBJECT, 0.0, 1.0)
PLANTED = Case("0.01", "identity", 0.01, 1.0)


def made(seed: int = 0) -> World:
    """A world of made-up features."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(N_TEXTS * TEXT_ROWS, D_MODEL, generator=generator)
    decoder = torch.randn(20, D_MODEL, generator=generator)
    targets = torch.randint(20, (len(g),), generator=generator)
    texts = torch.arange(len(g)) // TEXT_ROWS
    return World(g, 0.3 * g, targets, texts, decoder, SIZE, seed)


@pytest.fixture(scope="module")
def world() -> World:
    return made()


@pytest.fixture(scope="module")
def teacher(world) -> Teacher:
    return Teacher(world, 1.0)


def test_what_is_planted_lowers_the_loss_by_its_divergence_from_c(world, teacher) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = teacher.draw(*world.training.draw(2000, generator), generator)
    numbers, _ = world.training.draw(2000, torch.Generator().manual_seed(0))
    planted = teacher.logits(numbers).log_softmax(-1)
    classical = Teacher(world, 0.0).logits(numbers).log_softmax(-1)
    torch.testing.assert_close(classical, (rows.features @ world.decoder.T).log_softmax(-1))
    gained = F.nll_loss(classical, rows.targets) - F.nll_loss(planted, rows.targets)
    divergence = (planted.exp() * (planted - classical)).sum(-1).mean()
    assert divergence > 0.1
    assert gained == pytest.approx(divergence.item(), abs=0.02)


def test_c_is_that_of_the_most_frequent_words() -> None:
    generator = torch.Generator().manual_seed(0)
    g, decoder = (torch.randn(n, D_MODEL, generator=generator) for n in (512, 20))
    targets = torch.arange(512) % 4 * 5  # Words 0, 5, 10 and 15.
    size = replace(SIZE, n_words=4)
    world = World(g, g, targets, torch.arange(512) // TEXT_ROWS, decoder, size)
    assert world.features.shape == (512, 4)
    torch.testing.assert_close(world.features @ world.decoder.T, g @ decoder[::5].T)


def test_units_are_neighbouring_rows_of_one_text_in_one_pool(world) -> None:
    drawn = []
    for pool in (world.training, world.held_out):
        rows, draws = pool.draw(200, torch.Generator().manual_seed(0))
        for draw in range(200):
            unit = rows[draws == draw]
            assert len(unit) in (SIZE.unit_rows, TEXT_ROWS % SIZE.unit_rows)
            assert (unit.diff() == 1).all()
            assert unit[0] // TEXT_ROWS == unit[-1] // TEXT_ROWS
        drawn.append(set((rows // TEXT_ROWS).tolist()))
    assert max(drawn[0]) < N_TEXTS // 2 <= min(drawn[1])
    assert world.calibration_rows.max() < N_TEXTS // 2 * TEXT_ROWS


def test_a_a_compares_other_initial_values_on_the_same_data(world, teacher, monkeypatch) -> None:
    made_of, contender = [], world.contender

    def noted(arm: str, seed: int):
        made_of.append((arm, seed))
        return contender(arm, seed)

    monkeypatch.setattr(world, "contender", noted)
    losses = simulate(world, teacher, AA, seed=0)
    assert {arm for arm, _ in made_of} == {SUBJECT}
    assert len(set(made_of)) == 2 * SIZE.n_seeds
    assert not np.array_equal(losses.subject, losses.rival)

    monkeypatch.setattr(
        simulation, "_rival_s_seed", lambda world, _, seed, s: world.number(INITIAL, seed, s)
    )
    same = simulate(world, teacher, AA, seed=0)
    assert np.array_equal(same.subject, losses.subject)
    assert np.array_equal(same.subject, same.rival)


def test_a_rival_has_the_subject_s_seeds(world, teacher, monkeypatch) -> None:
    made_of, contender = [], world.contender
    monkeypatch.setattr(
        world, "contender", lambda arm, seed: made_of.append((arm, seed)) or contender(arm, seed)
    )
    simulate(world, teacher, PLANTED, seed=0)
    subject, rival = (
        [seed for arm, seed in made_of if arm == name] for name in (SUBJECT, "identity")
    )
    assert subject == rival
    assert len(set(subject)) == SIZE.n_seeds


def test_the_same_seed_gives_the_same_bits(world, teacher) -> None:
    one = simulate(world, teacher, PLANTED, seed=3)
    again = made()
    two = simulate(again, Teacher(again, 1.0), PLANTED, seed=3)
    other = simulate(world, teacher, PLANTED, seed=4)
    for name in ("subject", "rival", "tokens"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.subject, other.subject)
    assert list(outcomes(one, PLANTED, 3, SIZE)) == list(outcomes(two, PLANTED, 3, SIZE))


def test_studies_that_share_a_training_set_differ_in_what_is_held_out(world, teacher) -> None:
    drawn = []

    class Noting(Teacher):
        def draw(self, *arguments):
            drawn.append(super().draw(*arguments))
            return drawn[-1]

    noting = Noting(world, 1.0)
    shared = replace(PLANTED, n_training_sets=2)
    for seed in (0, 2, 1):
        simulate(world, noting, shared, seed)
    training, held_out = drawn[::2], drawn[1::2]
    assert torch.equal(training[0].targets, training[1].targets)
    assert torch.equal(training[0].g, training[1].g)
    assert not torch.equal(training[0].targets, training[2].targets)
    assert not torch.equal(held_out[0].targets, held_out[1].targets)


def test_a_study_and_its_parts_are_compared(world, teacher) -> None:
    losses = simulate(world, teacher, PLANTED, seed=0)
    whole, part = outcomes(losses, PLANTED, 0, SIZE)
    assert (whole.layout, part.layout) == ((2, 12), (2, 6))
    assert whole.difference == pytest.approx(losses.difference)
    first = (losses.rival - losses.subject)[:, :6].sum() / (2 * losses.tokens[:6].sum())
    assert part.difference == pytest.approx(first)
    assert whole.low < whole.difference < whole.high


def test_kappa_is_found_where_the_difference_is_as_wanted() -> None:
    asked = []

    def difference(kappa: float) -> float:
        asked.append(kappa)
        return 0.002 + 0.08 * kappa**2 - 0.01 * kappa**4

    kappa = find_kappa(difference, 0.02)
    assert difference(kappa) == pytest.approx(0.02, abs=1e-4)
    assert len(asked) <= 6


def outcome(difference: float, half_width: float, p: float, verdict: str, seed: int = 0) -> Outcome:
    low, high = difference - half_width, difference + half_width
    squares = (2e-3, 3e-3, 1e-3)
    return Outcome("x", seed, seed, 10, 800, difference, 0.001, low, high, p, verdict, squares)


FOUND = [
    outcome(0.010, 0.0005, 0.01, "better", 0),  # The others' mean is 0.004: not covered.
    outcome(0.006, 0.0012, 0.01, "better", 1),
    outcome(-0.001, 0.0012, 0.04, "worse", 0),
    outcome(0.007, 0.0030, 0.20, "inconclusive", 1),
    outcome(0.004, 0.0020, 0.03, "equivalent", 1),
]


@pytest.mark.parametrize(
    ("rival", "planted", "wrong"),
    [(SUBJECT, 0.0, 0.6), ("identity", 0.001, 0.2), ("identity", 0.005, 0.4)],
)
def test_shares_are_of_studies(rival, planted, wrong) -> None:
    row = Summary(Case("x", rival, planted, 0.3), FOUND, margin=0.005).row()
    shares = [row[name] for name in ("told_apart", "better", "worse", "equivalent", "inconclusive")]
    assert shares == [0.8, 0.4, 0.2, 0.2, 0.2]
    assert row["wrong"] == wrong
    assert row["mean_difference"] == pytest.approx(0.0052)
    assert row["mean_width"] == pytest.approx(0.00316)
    assert (row["n_studies"], row["n_seeds"], row["n_prompts"]) == (5, 10, 800)
    json.dumps(row, allow_nan=False)


def test_an_interval_is_judged_by_the_other_studies() -> None:
    """The means of the others: 0.004, 0.005, 0.00675, 0.00475, 0.0055; 0 where that is known."""
    case = Case("x", "identity", 0.005, 0.3)
    assert Summary(case, FOUND, margin=0.005).row()["covered"] == 0.6
    # Within a training set: -0.001 and 0.01 of each other; 0.0055, 0.005 and 0.0065 of the rest.
    assert Summary(case, FOUND, margin=0.005, own_truth=True).row()["covered"] == 0.4
    of_nothing = Summary(Case("x", SUBJECT, 0.0, 0.3), FOUND, margin=0.005).row()
    assert of_nothing["covered"] == 0.2
    assert of_nothing["predicted_power"] == pytest.approx(0.05)


def test_one_study_has_no_truth() -> None:
    with pytest.raises(ValueError, match="at least one other study"):
        Summary(PLANTED, FOUND[:1], margin=0.005)


def test_texts_that_do_not_follow_each_other_are_refused(world) -> None:
    texts = torch.arange(len(world.g)) % N_TEXTS
    targets = torch.zeros(len(world.g), dtype=torch.long)
    with pytest.raises(ValueError, match="follow each other"):
        World(world.g, world.features, targets, texts, world.decoder, SIZE)


def test_what_the_study_s_page_shows_is_packed_with_the_program() -> None:
    text = (resources.files("quantum_hybrid") / "study/data/instrument.json").read_text("utf-8")
    kept = json.loads(text)
    assert {"n_studies", "n_seeds", "n_prompts", "command", "commit"} <= set(kept)
    assert [row["planted"] for row in kept["rows"]] == [0.0, 0.005, 0.02]
    made = Summary(PLANTED, FOUND, margin=0.005).row()
    assert all(list(row) == list(made) for row in kept["rows"])
