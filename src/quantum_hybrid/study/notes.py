"""Sentences that the page of a study must carry: what its verdicts cannot say, and what failed."""

from __future__ import annotations

from collections.abc import Iterator

from quantum_hybrid.report.study_results import RegimeResults
from quantum_hybrid.study.arms import SUBJECT

NEARLY_LINEAR = 0.05
"""Share of variance. A circuit with less that is not linear is said to be nearly linear."""


def notes_of(regime: RegimeResults, margin: float) -> Iterator[str]:
    """The notes on one regime."""
    yield from _divergence(regime)
    yield from _linearity(regime)
    yield from _ceiling(regime, margin)
    yield from _negative_control(regime)
    yield from _positive_control(regime)


def _divergence(regime: RegimeResults) -> Iterator[str]:
    for arm, losses in regime.losses.items():
        if n := sum(loss is None for loss in losses.of_seeds.values()):
            yield (
                f"{arm} diverged in {n} of {len(losses.of_seeds)} seeds of the regime "
                f"{regime.name}, so nothing can be said of it there."
            )


def _linearity(regime: RegimeResults) -> Iterator[str]:
    use, tuned = regime.uses.get(SUBJECT), regime.tuned.get(SUBJECT)
    if use is None or use.nonlinear is None or use.nonlinear > NEARLY_LINEAR:
        return
    wide = ""
    if tuned and tuned.wide_loss is not None and tuned.validation_loss is not None:
        wide = (
            f"; with angles that spread widely its best trial was "
            f"{tuned.wide_loss - tuned.validation_loss:.4f} nats per token worse on validation "
            "texts"
        )
    yield (
        f"Regime {regime.name}: as it was tuned, the circuit is nearly a linear map: an affine one "
        f"of its angles explains {100 * (1 - use.nonlinear):.2f} % of the variance of its outputs, "
        f"and a linear map there can express no more than no map at all{wide}."
    )


def _ceiling(regime: RegimeResults, margin: float) -> Iterator[str]:
    """Where no arm gains anything, no two of them can differ."""
    if regime.best_gain is not None and regime.best_gain <= margin:
        yield (
            f"Regime {regime.name}: the best arm gains {regime.best_gain:.4f} nats per token over "
            "nothing at all, no more than the margin, so this regime cannot tell arms apart: "
            "equivalent says little of the circuit there."
        )


def _negative_control(regime: RegimeResults) -> Iterator[str]:
    control = regime.control
    if control is None or control.difference is None:
        return
    where = f"Regime {regime.name}: the circuit's outputs, given to other tokens,"
    size = f"{abs(control.difference):.4f} nats per token"
    if control.verdict == "better":
        yield (
            f"{where} cost {size} against nothing at all: an arm may lose as much by learning "
            "noise, whatever it can express."
        )
    if control.verdict == "worse":
        yield (
            f"{where} gain {size} over nothing at all. What is shuffled should not help, so no "
            "verdict of this regime can be trusted."
        )


def _positive_control(regime: RegimeResults) -> Iterator[str]:
    found = regime.positive
    if found is not None and found.verdict != "better":
        yield (
            f"Regime {regime.name}: the circuits that have written the text were not better than "
            f"no map at all ({found.verdict}): this study tells no useful circuit from others, so "
            "its other verdicts do not say that there is none."
        )
