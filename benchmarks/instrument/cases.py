"""What is simulated, and what each simulated study said."""

from __future__ import annotations

from dataclasses import dataclass

from quantum_hybrid.study.arms import Shape
from quantum_hybrid.study.fits.fit import Settings

SHAPE = Shape(n=8, n_layers=3)
SETTINGS = Settings(up_rate=0.01, down_rate=1 / 30, map_rate=1 / 30, spread=0.3)


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
