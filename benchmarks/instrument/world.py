"""Kept features whose next token is drawn from a known distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.instrument.cases import Size
from quantum_hybrid.study.arms import ARMS, SUBJECT
from quantum_hybrid.study.fits.fit import Contender, Rows
from quantum_hybrid.study.fits.start import Calibration, Recalibrated

ROWS_AT_ONCE = 4096
# Purposes of random numbers, so that no two share a seed.
CALIBRATION, HIDDEN, TRAINING, HELD_OUT, INITIAL, ORDER = range(6)


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
        order = torch.randperm(n_rows, generator=self.generator(CALIBRATION))
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
        self._hidden = world.contender(SUBJECT, world.number(HIDDEN, 0))
        self._hidden.begin(world.g[world.calibration_rows])
        n = world.size.shape.n
        generator = world.generator(HIDDEN, 1)
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
