"""What a study found, as its page and its tables show it; also the content of results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ArmFacts:
    """What stands in one arm."""

    name: str
    says: str
    n_parameters: int
    """Trainable parameters of the arm's map, without `down` and `up`."""
    multiply_adds: int
    """Of the map, for one token."""


@dataclass(frozen=True)
class TunedArm:
    """What the tuning chose for an arm in a regime."""

    settings: Mapping[str, float]
    """Name -> value of each tuned setting."""
    validation_loss: float | None
    """Of the chosen trial, in nats per token; None if all diverged."""
    n_trials: int
    n_diverged: int
    """Trials without a finite loss."""
    wide_loss: float | None = None
    """The lowest validation loss of a trial whose angles spread so widely that a circuit is not
    nearly linear; None if there is none."""


@dataclass(frozen=True)
class ArmUse:
    """How an arm's map is used once it is trained, over the seeds."""

    nonlinear: float | None
    """Share of the variance of its outputs that no affine map of its angles explains, mean; None
    if its outputs have no variance."""
    moved: float
    """Largest change of a parameter of the map by the training, mean: of angles in radians."""
    directions: int
    """Fewest directions in which its outputs varied at the start."""


@dataclass(frozen=True)
class ArmLosses:
    """Held-out losses of an arm in a regime, in nats per token."""

    of_seeds: Mapping[int, float | None]
    """Seed -> mean over tokens; None where the arm diverged."""

    @property
    def mean(self) -> float | None:
        """Over the seeds; None if one diverged."""
        values = [value for value in self.of_seeds.values() if value is not None]
        if not values or len(values) < len(self.of_seeds):
            return None
        return sum(values) / len(values)


@dataclass(frozen=True)
class ComparedRival:
    """The subject compared with a rival; differences are rival minus subject, nats per token."""

    rival: str
    verdict: str
    """Of the subject: better, worse, equivalent, inconclusive; or diverged."""
    difference: float | None = None
    """Positive if the subject is better. None, like all below, for a rival that diverged."""
    low: float | None = None
    high: float | None = None
    """Confidence interval of the difference at 95 %."""
    p_different: float | None = None
    """Of "no difference", adjusted by Holm over the rivals."""
    p_within: float | None = None
    """Of "not within the margin", adjusted by Holm over the rivals."""
    p_t: float | None = None
    """Paired t test over the seeds, a second opinion, not adjusted."""
    p_wilcoxon: float | None = None
    low_elsewhere: float | None = None
    high_elsewhere: float | None = None
    """The same after training on another text, conservative."""
    seeds_needed: int | None = None
    """For a verdict with 90 % power; None if no number will do without more prompts."""
    variances: Mapping[str, float] | None = None
    """Variance components: seed, prompt, rest."""


@dataclass(frozen=True)
class RegimeResults:
    """One regime."""

    name: str
    says: str
    tuned: Mapping[str, TunedArm]
    """Arm -> its tuning; empty until it is done."""
    curve_tokens: Sequence[int]
    """Training tokens seen at each point of the curves."""
    curves: Mapping[str, Sequence[float]]
    """Arm -> training loss, mean over the seeds that are done, at those points."""
    losses: Mapping[str, ArmLosses]
    """Arm -> its held-out losses; empty until the held-out set has been opened."""
    compared: Sequence[ComparedRival]
    """Empty until the held-out set has been opened."""
    control: ComparedRival | None = None
    """The negative control: the subject's outputs shuffled among tokens, minus nothing at all;
    None if a plan lacks one of the two."""
    positive: ComparedRival | None = None
    """The positive control: no map at all, minus the circuits that have written the text; None in
    a regime whose text was not written by circuits."""
    best_gain: float | None = None
    """Loss of nothing at all minus that of the best arm, in nats per token: how much there is to
    gain. What is shuffled is no arm here. None without held-out losses."""
    uses: Mapping[str, ArmUse] = field(default_factory=dict)
    """Arm -> how its map is used. Empty until all fits are done."""
    is_control: bool = False
    """Whether it tests the study itself, and says nothing of the text."""
    is_tuned: bool = True
    """Whether the arms' settings are tuned."""
    is_frozen: bool = True
    """Whether what stands beside the arms is the same for all of them, and not trained."""


@dataclass(frozen=True)
class Look:
    """An evaluation of these held-out texts, by this study or an earlier one."""

    time: str
    study: str
    """Name of the study's folder."""
    plan: str
    """Hash of its plan."""
    n_units: int
    """Number of this study's held-out units at which it looked."""


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    stage: str
    """What it does now, in words."""
    done: int
    of: int
    """Fits that are done and planned."""
    missing: Sequence[str]
    """What a complete study has and this one lacks, in words; empty if it is complete."""


@dataclass(frozen=True)
class Sample:
    """A prompt of the training text and the teacher's answer; text of a model, so untrusted."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class TextFacts:
    """The text that a study is made on."""

    source: str
    """Where it comes from, in words."""
    unit: str
    """What is drawn independently: prompt or document."""
    n_units: Mapping[str, int]
    """Part (training, validation, held-out) -> number of units."""
    n_tokens: Mapping[str, int]
    left_out: Mapping[str, int]
    """Why texts were left out -> how many."""
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class StudyResults:
    """All of it."""

    plan: Mapping[str, Any]
    """All its fields; the page reads `margin`, in nats per token, and `n_qubits`."""
    plan_hash: str
    started: str
    command: Sequence[str]
    commit: str | None
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    is_quick: bool
    """Whether it is too small to prove anything."""
    subject: str
    progress: Progress
    seconds: Mapping[str, float]
    """Stage -> time that it took, in seconds of processor time for fits, of wall time else."""
    text: TextFacts | None
    arms: Sequence[ArmFacts]
    regimes: Sequence[RegimeResults]
    looks: Sequence[Look] = ()
    instrument: Mapping[str, Any] | None = None
    """The instrument's own test: see `benchmarks/instrument`."""
    scaling: Mapping[str, Any] | None = None
    """Loss against the number of qubits: see `quantum_hybrid.study.scaling`. A loss that is None
    or not finite is left out of the figure."""
    notes: Sequence[str] = field(default=())
    """Sentences that the page must carry, such as that an arm diverged."""
