"""The figures with lines: learning curves of a regime, and loss against the number of qubits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.axis import Axis, axis_around, reach
from quantum_hybrid.report.study_page.lines import (
    Line,
    line_figure,
    names_with_numbers,
    thinned,
)
from quantum_hybrid.report.study_page.markup import Markup, capitalised, element, joined, text
from quantum_hybrid.report.study_results import RegimeResults, StudyResults
from quantum_hybrid.shown import shown

SETTLED = 3
"""The axis of losses holds the curves after this part of training, 1/3; the fall before is cut."""


def learning_curves(results: StudyResults, regime: RegimeResults, identifier: str) -> Markup:
    """Training losses of a regime's arms against training tokens."""
    lines = [
        Line(arm, arm, points)
        for arm, losses in regime.curves.items()
        if (points := thinned(list(zip(regime.curve_tokens, losses, strict=False))))
    ]
    if not lines:
        return element("p", text(f"{capitalised(regime.name)}: no curve yet."))
    near = _near(lines, results.subject)
    x_axis = Axis(0.0, max(line.points[-1][0] for line in lines) or 1.0)
    y_axis = axis_around(
        [y for line in near for _, y in line.points[len(line.points) // SETTLED :]]
    )
    far = [line for line in lines if line not in near]
    caption = (
        f"{capitalised(regime.name)}: training loss in nats per token, mean over seeds. The first "
        f"fall is cut off.{_off(far)}{_without(regime)}"
    )
    figure = line_figure(
        identifier,
        f"Learning curves, {regime.name}",
        f"Training loss at the end: {names_with_numbers(lines)}.",
        near,
        x_axis,
        y_axis,
        x_axis.ticks(4),
        "training tokens",
        results.subject,
    )
    return _figure(figure, caption)


def scaling_curves(
    results: StudyResults, rows: Sequence[Mapping[str, Any]], identifier: str
) -> Markup:
    """Held-out loss of each arm against the number of qubits, with standard errors."""
    rows = [row for row in rows if row["loss"] is not None and math.isfinite(row["loss"])]
    if not rows:
        return element("p", text("No finite loss yet."))
    lines = []
    for arm, n_layers in dict.fromkeys((row["arm"], row["n_layers"]) for row in rows):
        own = [row for row in rows if (row["arm"], row["n_layers"]) == (arm, n_layers)]
        own.sort(key=lambda row: row["n_qubits"])
        several = len({row["n_layers"] for row in rows if row["arm"] == arm}) > 1
        label = f"{arm}, {n_layers} layers" if several else arm
        points = [(float(row["n_qubits"]), float(row["loss"])) for row in own]
        lines.append(Line(arm, label, points, [row["standard_error"] for row in own]))
    sizes = sorted({row["n_qubits"] for row in rows})
    near = _near(lines, results.subject)
    y_axis = axis_around([y for line in near for _, y in line.points])
    far = [line for line in lines if line not in near]
    figure = line_figure(
        identifier,
        "Loss against the number of qubits",
        f"Held-out loss at the largest size: {names_with_numbers(lines)}.",
        near,
        axis_around(sizes, room=0.04),
        y_axis,
        sizes,
        "qubits",
        results.subject,
    )
    caption = (
        "Held-out loss in nats per token against n, the numbers between down and up. Bars are one "
        f"standard error either side.{_off(far)}"
    )
    return _figure(figure, caption)


def _near(lines: Sequence[Line], subject: str) -> list[Line]:
    """The lines whose ends are not far from the subject's, or from the median without it."""
    own = [line.points[-1][1] for line in lines if line.arm == subject]
    middle = own[0] if own else median(line.points[-1][1] for line in lines)
    distances = [abs(line.points[-1][1] - middle) for line in lines]
    most = reach([distance for distance in distances if distance > 0])
    return [line for line, far in zip(lines, distances, strict=True) if far <= most]


def _off(far: Sequence[Line]) -> str:
    if not far:
        return ""
    ends = ", ".join(
        f"{shown(line.label, 40)} at {numbers.nats(line.points[-1][1])}" for line in far
    )
    return f" Off the axis: {ends}."


def _without(regime: RegimeResults) -> str:
    names = [
        shown(arm, 40)
        for arm, losses in regime.curves.items()
        if not thinned(list(zip(regime.curve_tokens, losses, strict=False)))
    ]
    return f" Without a finite loss: {', '.join(names)}." if names else ""


def _figure(drawing: Markup, caption: str) -> Markup:
    return element("figure", joined([drawing, element("figcaption", text(caption, 1000))]))
