"""The plan of a study: everything that is decided before the first arm starts.

    plan = read_plan("plan.yaml")
    plan.digest  # stands in the study, which goes on with no other plan

A plan is a YAML file with some of the fields of `StudyPlan`; the rest have their defaults.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from quantum_hybrid.config import EMBEDDED, Name, RunConfig, Settings, Text
from quantum_hybrid.errors import UsageError
from quantum_hybrid.paths import user_path
from quantum_hybrid.shown import shown
from quantum_hybrid.study.arms import (
    ARMS,
    MOST_POLYNOMIAL_QUBITS,
    MOST_STATE_QUBITS,
    SUBJECT,
    Shape,
)
from quantum_hybrid.study.regimes import REGIMES, Regime

WRITTEN, BUILT_IN = "written", "built-in"
FEWEST_SEEDS, FEWEST_UNITS = 5, 200
"""With fewer seeds or held-out units a study shows how it works and proves nothing."""


class StudyPlan(Settings, use_attribute_docstrings=True):
    """A plan. The unit that is sampled is the prompt, or the document of a text."""

    version: Literal[1] = 1
    """Version of this format."""
    text: Name | None = None
    """File of documents separated by blank lines; None for a teacher's answers to prompts."""
    prompts: Name = WRITTEN
    """`written` by the embedded teacher, `built-in`, or a file of prompts, as a run takes."""
    longest_unit: int = Field(default=64, ge=8, le=1024)
    """Most tokens of an answer, or of a document; the rest of a document is cut off."""
    training: int = Field(default=850, ge=2, le=1_000_000)
    """Number of training units."""
    validation: int = Field(default=150, ge=2, le=1_000_000)
    """Number of units on which the tuning is judged."""
    held_out: int = Field(default=800, ge=2, le=1_000_000)
    """Number of units on which the verdicts rest."""
    text_seed: int = Field(default=2, ge=0, le=2**31 - 1)
    """Of the text: prompts, answers, and which unit is in which part. The held-out texts of
    seeds 0 and 1 were looked at while the study was made (docs/log.md#half-samples, #rates)."""
    base_model_name: Name = EMBEDDED
    """The backbone before layers are dropped, named as for a run."""
    drop_layers: Text = "auto"
    """Layers that are dropped, named as for a run."""
    healing_steps: int = Field(default=100, ge=1, le=100_000)
    """Steps of `HEALING_UNITS` training units that heal the backbone and its classical head."""
    n_qubits: int = Field(default=8, ge=2, le=128)
    """n: numbers between down and up."""
    n_layers: int = Field(default=3, ge=1, le=10)
    """Layers of each circuit."""
    regimes: Annotated[tuple[Regime, ...], Strict(False)] = ("alone", "beside", "planted")
    """What stands beside the arms."""
    arms: Annotated[tuple[str, ...], Strict(False)] = tuple(ARMS)
    """The subject and its rivals."""
    seeds: int = Field(default=10, ge=2, le=1_000)
    """Number of seeds: initialisation, data order, half of the training units."""
    first_seed: int = Field(default=0, ge=0, le=2**20)
    """The seeds are consecutive from this one."""
    tuning_trials: int = Field(default=16, ge=1, le=1_000)
    """Trials of each arm in each regime."""
    epochs: int = Field(default=1, ge=1, le=1_000)
    """Passes of a fit over its training rows."""
    margin: float = Field(default=0.005, gt=0, le=10)
    """Differences up to this are of no interest, in nats per token."""
    tests: Literal["multi-bootstrap, two one-sided tests, Holm over rivals, alpha 0.05"] = (
        "multi-bootstrap, two one-sided tests, Holm over rivals, alpha 0.05"
    )
    """How verdicts are reached; there is one way."""
    stopping: Literal["after all seeds; the held-out units are opened once, then"] = (
        "after all seeds; the held-out units are opened once, then"
    )
    """When to stop; there is one rule."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, values in (("arms", self.arms), ("regimes", self.regimes)):
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise UsageError(f"`{name}`: {twice!r} is listed twice")
        for arm in self.arms:
            if arm not in ARMS:
                raise UsageError(f"`arms` {arm!r}: must be some of {', '.join(ARMS)}")
        if SUBJECT not in self.arms or len(self.arms) < 2:
            raise UsageError(f"`arms`: must be {SUBJECT}, the subject, and at least one rival")
        if not self.regimes:
            raise UsageError(f"`regimes`: must be at least one of {', '.join(REGIMES)}")
        if "polynomial" in self.arms and self.n_qubits > MOST_POLYNOMIAL_QUBITS:
            raise UsageError(
                f"`n_qubits` {self.n_qubits}: must be at most {MOST_POLYNOMIAL_QUBITS} with the "
                "arm polynomial, which has 3^n coefficients an output"
            )
        if "re-uploading" in self.arms and self.n_qubits > MOST_STATE_QUBITS:
            raise UsageError(
                f"`n_qubits` {self.n_qubits}: must be at most {MOST_STATE_QUBITS} with the arm "
                "re-uploading, which needs state vectors"
            )
        if self.text is not None and self.prompts != WRITTEN:
            raise UsageError("`prompts`: a plan with a `text` has no prompts")
        dropped = self.student().dropped_layers()
        if "weak" in self.regimes and not dropped:
            raise UsageError("`drop_layers`: the regime weak needs a backbone with layers dropped")
        return self

    @property
    def shape(self) -> Shape:
        """The size of the arms."""
        return Shape(self.n_qubits, self.n_layers)

    def arms_of(self, regime: Regime) -> tuple[str, ...]:
        """The arms of a regime."""
        return (*self.arms, *REGIMES[regime].also)

    def rivals(self, regime: Regime) -> tuple[str, ...]:
        """The arms that the subject is compared with."""
        return tuple(arm for arm in self.arms_of(regime) if arm != SUBJECT)

    @property
    def all_seeds(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def n_units(self) -> int:
        """Units in all parts."""
        return self.training + self.validation + self.held_out

    @property
    def proves_something(self) -> bool:
        """Whether seeds and units are enough for a verdict that means anything."""
        return self.seeds >= FEWEST_SEEDS and self.held_out >= FEWEST_UNITS

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    def student(self) -> RunConfig:
        """Settings of the backbone and of its healing, as those of a run."""
        return RunConfig(
            base_model_name=self.base_model_name,
            drop_layers=self.drop_layers,
            total_steps=self.healing_steps,
            seed=self.text_seed,
        )


DEFAULT_PLAN = StudyPlan()
QUICK_PLAN = StudyPlan(
    prompts=BUILT_IN,
    training=120,
    validation=24,
    held_out=60,
    healing_steps=10,
    seeds=2,
    tuning_trials=2,
    regimes=("alone",),
)
"""Shows in five minutes what a study does."""


def read_plan(named: str) -> StudyPlan:
    """The plan in a YAML file. Raises `UsageError`, which names the file and the field."""
    import yaml

    where = f"plan {named!r}"
    try:
        content = yaml.safe_load(user_path(named, where).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not a YAML file: {shown(str(error))}") from error
    if not isinstance(content, dict) or "version" not in content:
        raise UsageError(f"{where}: must hold version: 1 and fields of a plan")
    return plan_of(content, where)


def plan_of(fields: dict[Any, Any], where: str) -> StudyPlan:
    """The plan with these fields; `where` begins the message of a `UsageError`."""
    try:
        return StudyPlan(**{str(name): value for name, value in fields.items()})
    except UsageError as error:
        raise UsageError(f"{where}: {error.without_backticks()}") from None


def canonical(content: Any) -> bytes:
    """JSON with one form for equal content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")
