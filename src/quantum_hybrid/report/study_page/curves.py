"""The learning curves of a regime."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.axis import Axis, axis_around, reach
from quantum_hybrid.report.study_page.lines import (
    Line,
    Plane,
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
    near = near_lines(lines, results.subject)
    x_axis = Axis(0.0, max(line.points[-1][0] for line in lines) or 1.0)
    y_axis = axis_around(
        [y for line in near for _, y in line.points[len(line.points) // SETTLED :]]
    )
    far = [line for line in lines if line not in near]
    caption = (
        f"{capitalised(regime.name)}: training loss in nats per token, mean over seeds. The first "
        f"fall is cut off.{off_the_axis(far)}{_without(regime)}"
    )
    figure = line_figure(
        identifier,
        f"Learning curves, {regime.name}",
        f"Training loss at the end: {names_with_numbers(lines)}.",
        near,
        Plane(x_axis, y_axis, x_axis.ticks(4), "training tokens"),
        results.subject,
    )
    return figure_of(figure, caption)


def near_lines(lines: Sequence[Line], subject: str) -> list[Line]:
    """The lines whose ends are not far from the subject's, or from the median without it."""
    own = [line.points[-1][1] for line in lines if line.arm == subject]
    middle = own[0] if own else median(line.points[-1][1] for line in lines)
    distances = [abs(line.points[-1][1] - middle) for line in lines]
    most = reach([distance for distance in distances if distance > 0])
    return [line for line, far in zip(lines, distances, strict=True) if far <= most]


def off_the_axis(far: Sequence[Line]) -> str:
    """Words on the lines that are not drawn."""
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


def figure_of(drawing: Markup, caption: str) -> Markup:
    """The drawing with its caption."""
    return element("figure", joined([drawing, element("figcaption", text(caption, 1000))]))
