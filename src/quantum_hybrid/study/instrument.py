"""The instrument's own test: many small studies of a world whose truth is known.

A world is made of kept features. Its next token is drawn from softmax(C + kappa Q): C are the
classical logits of the most frequent words, and Q = U z is a hidden student whose z is a ring with
weights of its own, so the circuit has something true to find. kappa sets by how much the subject
beats a rival. In an A/A study the rival is the subject again, with other initial values and the
same data: no difference can be true.

What is sampled is what the intervals claim to cover. A unit is a few neighbouring rows. Half of the
texts are a pool of units for training, the others a pool of held-out units. Every study draws units
independently from both, with replacement, and the targets of every drawn unit anew. Every seed of a
study has its own initial values, order, and half of the study's training units. So the
truth is the mean difference over seeds, held-out units and training sets, and is estimated by the
mean of the other studies. Cases with few training sets tell what a training set shared by all seeds
contributes: drawing it anew with replacement cannot.

Contenders, training, losses and verdicts are the study's own; only its size differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.evaluation.statistics import MeanSquares, power_to_tell
from quantum_hybrid.study.arms import ARMS, SUBJECT, Shape
from quantum_hybrid.study.fit import Contender, Fit, Rows, Settings, batches
from quantum_hybrid.study.sampling import half_sample
from quantum_hybrid.study.start import Calibration, Recalibrated
from quantum_hybrid.study.verdict import ALPHA, Verdict, compare

ROWS_AT_ONCE = 4096
SHAPE = Shape(n=8, n_layers=3)
SETTINGS = Settings(up_rate=0.01, down_rate=1 / 30, map_rate=1 / 30, spread=0.3)
# Purposes of random numbers, so that no two share a seed.
_CALIBRATION, _HIDDEN, _TRAINING, _HELD_OUT, _INITIAL, _ORDER = range(6)


@dataclass(frozen=True)
class Size:
    """A simulated study."""

    n_words: int = 256
    unit_rows: int = 8
    """Neighbouring rows of a text that are drawn together."""
    n_training: int = 2048
    """Training units; each seed sees half of them."""
    n_held_out: int = 800
    """Held-out units: the study's prompts."""
    n_seeds: int = 10
    n_calibration: int = 1024
    """Rows of the training pool from which arms start."""
    shape: Shape = SHAPE
    settings: Settings = SETTINGS
    """Of both arms and of the hidden student."""
    margin: float = 0.005
    """Nats per token."""
    parts: tuple[tuple[int, int], ...] = ((4, 100),)
    """Seeds and prompts of smaller studies, whose losses are a part of the study's."""


@dataclass(frozen=True)
class Case:
    """What is simulated many times."""

    name: str
    rival: str
    """Arm that is compared with the subject; the subject itself for A/A."""
    planted: float
    """The intended difference, in nats per token."""
    kappa: float
    n_training_sets: int | None = None
    """Number of training sets that the studies share in turn; None: each study draws its own."""

    def training_set(self, seed: int) -> int:
        """Number of the training set of the study with this seed."""
        return seed if self.n_training_sets is None else seed % self.n_training_sets


@dataclass(frozen=True)
class Outcome:
    """What a simulated study, or a part of it, said."""

    case: str
    seed: int
    training_set: int
    n_seeds: int
    n_prompts: int
    difference: float
    """Rival minus subject, nats per token."""
    standard_error: float
    low: float
    high: float
    """The interval at 95 %."""
    p_different: float
    verdict: str
    mean_squares: tuple[float, float, float]
    """Of seeds, prompts and the rest."""

    @property
    def layout(self) -> tuple[int, int]:
        """Seeds and prompts."""
        return self.n_seeds, self.n_prompts


@dataclass(frozen=True)
class Pool:
    """Units that can be drawn."""

    first: Int[Tensor, " units"]
    """First row of each unit."""
    lengths: Int[Tensor, " units"]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The rows of n units, drawn independently, and the number of each row's draw."""
        units = torch.randint(len(self.first), (n,), generator=generator)
        lengths = self.lengths[units]
        draws = torch.arange(n).repeat_interleave(lengths)
        within = torch.arange(len(draws)) - (lengths.cumsum(0) - lengths)[draws]
        return self.first[units][draws] + within, draws


class World:
    """Kept features, cut into pools of units, with the common start of all arms."""

    def __init__(
        self,
        g: Float[Tensor, "rows d_model"],
        features: Float[Tensor, "rows d_model"],
        targets: Int[Tensor, " rows"],
        texts: Int[Tensor, " rows"],
        decoder: Float[Tensor, "words d_model"],
        size: Size,
        seed: int = 0,
    ) -> None:
        """targets: choose the most frequent words. texts: number of each row's text, ascending.

        Raises `ValueError` if the texts do not follow each other.
        """
        if (texts.diff() < 0).any():
            raise ValueError("texts: the rows of a text must follow each other, in ascending order")
        self.g, self.size, self.seed = g, size, seed
        counts = torch.bincount(targets, minlength=len(decoder))
        words = counts.argsort(descending=True, stable=True)[: size.n_words]
        # In a basis of these words' rows there are fewer features, and C is the same.
        basis, self.decoder = _rotated(decoder[words])
        self.features = torch.cat([rows @ basis for rows in features.split(ROWS_AT_ONCE)])
        self.training, self.held_out = _pools(texts, size.unit_rows)
        n_rows = int(self.held_out.first[0])
        order = torch.randperm(n_rows, generator=self.generator(_CALIBRATION))
        self.calibration_rows = order[: size.n_calibration].sort().values
        self.calibration = Calibration(
            g[self.calibration_rows], features[self.calibration_rows], decoder[words]
        )
        self.start = self.calibration.start(size.shape.n)
        self.untouched = Recalibrated(torch.zeros(len(words)), torch.zeros(()))

    def number(self, *key: int) -> int:
        """A seed that depends on the world's seed and on these numbers."""
        return int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])

    def generator(self, *key: int) -> torch.Generator:
        """Random numbers that depend on the world's seed and on these numbers."""
        return torch.Generator().manual_seed(self.number(*key))

    def contender(self, arm: str, seed: int) -> Contender:
        """An arm with the initial values of a seed, not begun."""
        size = self.size
        return Contender(ARMS[arm], size.settings, self.start, size.shape, seed)


class Teacher:
    """softmax(C + kappa Q), from which targets are drawn."""

    def __init__(self, world: World, kappa: float) -> None:
        """The hidden student is the world's: the same for every kappa.

        It shares the common start's `down`. With a random rotation of those eight directions
        neither arm finds it in a small study, and the identity is the better one (docs/log.md).
        """
        self._world, self._kappa = world, kappa
        self._hidden = world.contender(SUBJECT, world.number(_HIDDEN, 0))
        self._hidden.begin(world.g[world.calibration_rows])
        n = world.size.shape.n
        generator = world.generator(_HIDDEN, 1)
        self._up = torch.randn(len(world.decoder), n, generator=generator) * n**-0.5
        parts = torch.arange(len(world.g)).split(ROWS_AT_ONCE)
        self._cumulative = torch.cat([self.logits(rows).softmax(-1).cumsum(-1) for rows in parts])

    @torch.no_grad()
    def logits(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows words"]:
        """C + kappa Q."""
        world = self._world
        classical = world.features[rows] @ world.decoder.T
        return classical + self._kappa * self._hidden(world.g[rows]) @ self._up.T

    def draw(self, rows: Tensor, draws: Tensor, generator: torch.Generator) -> Rows:
        """These rows with targets drawn anew."""
        cumulative = self._cumulative[rows]
        at = torch.rand(len(rows), 1, generator=generator) * cumulative[:, -1:]
        targets = torch.searchsorted(cumulative, at, right=True)[:, 0]
        targets = targets.clamp_max(cumulative.shape[1] - 1)
        return Rows(self._world.g[rows], targets, draws, self._world.features[rows])


@dataclass(frozen=True)
class Losses:
    """Of one simulated study, summed over the rows of a prompt, in nats."""

    subject: Float[np.ndarray, "seeds prompts"]
    rival: Float[np.ndarray, "seeds prompts"]
    tokens: Float[np.ndarray, " prompts"]

    @property
    def difference(self) -> float:
        """Rival minus subject, in nats per token."""
        return float((self.rival - self.subject).sum(1).mean() / self.tokens.sum())


def simulate(world: World, teacher: Teacher, case: Case, seed: int) -> Losses:
    """Train and evaluate the subject and the rival on what the teacher writes."""
    size = world.size
    of_training = world.generator(_TRAINING, case.training_set(seed))
    training = teacher.draw(*world.training.draw(size.n_training, of_training), of_training)
    of_held_out = world.generator(_HELD_OUT, seed)
    held_out = teacher.draw(*world.held_out.draw(size.n_held_out, of_held_out), of_held_out)
    of_unit = training.prompts.argsort(stable=True).split(
        torch.bincount(training.prompts, minlength=size.n_training).tolist()
    )
    sums = []
    for s in range(size.n_seeds):
        generator = world.generator(_ORDER, seed, s)
        units = half_sample(size.n_training, generator)
        sample = torch.cat([of_unit[unit] for unit in units.tolist()])
        contenders = [
            world.contender(SUBJECT, world.number(_INITIAL, seed, s)),
            world.contender(case.rival, _rival_s_seed(world, case, seed, s)),
        ]
        readouts = world.calibration.readouts(contenders, world.untouched)
        order = batches(len(sample), 1, generator)
        fit = Fit(contenders, readouts, world.decoder, n_steps=len(order))
        for numbers in order:
            fit.step(training[sample[numbers]])
        sums.append(fit.prompt_losses(held_out, size.n_held_out).numpy())
    subject, rival = np.stack(sums, 1)
    return Losses(subject, rival, np.bincount(held_out.prompts.numpy()).astype(float))


def outcomes(losses: Losses, case: Case, seed: int, size: Size) -> Iterator[Outcome]:
    """What the study says, then what its parts would have said."""
    for n_seeds, n_prompts in ((size.n_seeds, size.n_held_out), *size.parts):
        subject, rival = (part[:n_seeds, :n_prompts] for part in (losses.subject, losses.rival))
        tokens = losses.tokens[:n_prompts]
        (found,) = compare(subject, {case.rival: rival}, tokens, size.margin, seed)
        squares = found.difference.mean_squares
        yield Outcome(
            case.name, seed, case.training_set(seed), n_seeds, n_prompts, found.difference.mean,
            found.difference.standard_error, *found.interval, found.p_different,
            found.verdict.value, (squares.seed, squares.prompt, squares.rest),
        )  # fmt: skip


def find_kappa(
    difference: Callable[[float], float], wanted: float, first: float = 0.5, steps: int = 3
) -> float:
    """kappa at which `difference` is as wanted, by the secant rule on its square.

    A small Q changes a loss in proportion to its variance. Rounded to four digits.
    """
    known = [(0.0, difference(0.0)), (first**2, difference(first))]
    for _ in range(steps):
        (x0, y0), (x1, y1) = known[-2:]
        if y1 == y0:
            break
        x = x1 + (wanted - y1) * (x1 - x0) / (y1 - y0)
        x = min(max(x, x1 / 16), 16 * x1)
        kappa = round(x**0.5, 4)
        if any(kappa**2 == at for at, _ in known):
            return kappa
        known.append((kappa**2, difference(kappa)))
    return round(min(known, key=lambda pair: abs(pair[1] - wanted))[0] ** 0.5, 4)


@dataclass(frozen=True)
class Summary:
    """Many outcomes of one case and layout, and the truth."""

    case: Case
    found: Sequence[Outcome]
    margin: float
    """Of the studies, in nats per token."""
    own_truth: bool = False
    """Judge a study by the others of its training set, and not by all others."""
    _by_group: Mapping[int, list[float]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        groups: dict[int, list[float]] = {}
        for outcome in self.found:
            groups.setdefault(self._group(outcome), []).append(outcome.difference)
        if any(len(group) < 2 for group in groups.values()):
            raise ValueError(f"{self.case.name}: the truth is the mean of at least one other study")
        object.__setattr__(self, "_by_group", groups)

    def _group(self, outcome: Outcome) -> int:
        return outcome.training_set if self.own_truth else 0

    def truth(self, outcome: Outcome) -> float:
        """The true difference, as the other studies have it; exactly 0 for A/A."""
        if self.case.rival == SUBJECT:
            return 0.0
        group = self._by_group[self._group(outcome)]
        return (sum(group) - outcome.difference) / (len(group) - 1)

    @property
    def mean_squares(self) -> MeanSquares:
        """Their mean over the studies."""
        seed, prompt, rest = np.mean([outcome.mean_squares for outcome in self.found], 0)
        return MeanSquares(float(seed), float(prompt), float(rest), *self.found[0].layout)

    def row(self) -> dict[str, Any]:
        """All figures; shares of studies, and nats per token."""
        found, n = self.found, len(self.found)
        differences = np.array([outcome.difference for outcome in found])
        truths = [self.truth(outcome) for outcome in found]
        covered = np.mean([o.low <= t <= o.high for o, t in zip(found, truths, strict=True)])
        told = np.mean([outcome.p_different <= ALPHA for outcome in found])
        verdicts = [outcome.verdict for outcome in found]
        true_mean, n_seeds = float(np.mean(truths)), found[0].n_seeds
        predicted = power_to_tell(self.mean_squares, true_mean, n_seeds, ALPHA)
        deviation = float(differences.std(ddof=1))
        return {
            "case": self.case.name,
            "planted": self.case.planted,
            "kappa": self.case.kappa,
            "n_studies": n,
            "n_seeds": n_seeds,
            "n_prompts": found[0].n_prompts,
            "told_apart": round(float(told), 4),
            "predicted_power": round(predicted, 4),
            **{verdict.value: round(verdicts.count(verdict.value) / n, 4) for verdict in Verdict},
            "wrong": round(self._wrong(verdicts) / n, 4),
            "covered": round(float(covered), 4),
            "covered_error": round(float(np.sqrt(covered * (1 - covered) / n)), 4),
            "mean_difference": round(float(differences.mean()), 6),
            "mean_difference_error": round(deviation / n**0.5, 6),
            "standard_deviation": round(deviation, 6),
            "standard_error": round(float(np.mean([o.standard_error for o in found])), 6),
            "mean_width": round(float(np.mean([o.high - o.low for o in found])), 6),
        }

    def _wrong(self, verdicts: Sequence[str]) -> int:
        """Verdicts that contradict the planted difference, which is never negative."""
        wrong = [Verdict.WORSE]
        if self.case.planted == 0:
            wrong.append(Verdict.BETTER)
        if self.case.planted >= self.margin:
            wrong.append(Verdict.EQUIVALENT)
        return sum(verdict in wrong for verdict in verdicts)


def _pools(texts: Int[Tensor, " rows"], unit_rows: int) -> tuple[Pool, Pool]:
    """Units of the first half of the texts, and of the others."""
    _, lengths = texts.unique_consecutive(return_counts=True)
    starts = lengths.cumsum(0) - lengths
    pools, half = [], len(lengths) // 2
    for which in (slice(None, half), slice(half, None)):
        first, rows = [], []
        for start, length in zip(starts[which].tolist(), lengths[which].tolist(), strict=True):
            for at in range(0, length, unit_rows):
                first.append(start + at)
                rows.append(min(unit_rows, length - at))
        pools.append(Pool(torch.tensor(first), torch.tensor(rows)))
    return pools[0], pools[1]


def _rotated(decoder: Float[Tensor, "words d_model"]) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (d_model, k) of the rows, and the rows in this basis, (words, k)."""
    basis, rows = torch.linalg.qr(decoder.double().T)
    return basis.float(), rows.T.float().contiguous()


def _rival_s_seed(world: World, case: Case, seed: int, s: int) -> int:
    """Initial values: the subject's, except that A/A is about other ones."""
    shift = world.size.n_seeds if case.rival == SUBJECT else 0
    return world.number(_INITIAL, seed, s + shift)
