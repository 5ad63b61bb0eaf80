"""Many simulated studies of one case, and the truth that they were to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.instrument.cases import Case, Outcome
from quantum_hybrid.evaluation.statistics import MeanSquares, power_to_tell
from quantum_hybrid.study.arms import SUBJECT
from quantum_hybrid.study.verdict import ALPHA, Verdict


@dataclass(frozen=True)
class Summary:
    """Many outcomes of one case and layout, and the truth."""

    case: Case
    found: Sequence[Outcome]
    margin: float
    """Of the studies, in nats per token."""
    own_truth: bool = False
    """Judge a study by the others of its training set, and not by all others."""

    def __post_init__(self) -> None:
        if any(len(group) < 2 for group in self._by_group.values()):
            raise ValueError(f"{self.case.name}: the truth is the mean of at least one other study")

    @cached_property
    def _by_group(self) -> Mapping[int, list[float]]:
        groups: dict[int, list[float]] = {}
        for outcome in self.found:
            groups.setdefault(self._group(outcome), []).append(outcome.difference)
        return groups

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
