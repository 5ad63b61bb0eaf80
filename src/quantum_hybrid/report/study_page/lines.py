"""Lines over an axis, each with its name at its end: learning curves, and loss against qubits.

The figure is as wide as its box. Its padding holds the labels; inside, places are in percent and
the lines' own coordinates are stretched, while text and widths of strokes keep their sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.axis import Axis
from quantum_hybrid.report.study_page.colors import arm_class, color_of
from quantum_hybrid.report.study_page.markup import Markup, element, percent, svg, text
from quantum_hybrid.shown import shown

MOST_POINTS = 120
"""Points of a line that are drawn; of more, evenly spaced ones."""
LONGEST_LABEL = 16
"""Characters of a name at the end of a line."""
_HEIGHT, _LABEL = 300, 17
_TOP, _BOTTOM = 10, 46
"""Pixels: of the plot, of a label, and of the padding above and below."""


@dataclass(frozen=True)
class Line:
    """One line."""

    arm: str
    label: str
    points: Sequence[tuple[float, float]]
    """All finite."""
    errors: Sequence[float] = ()
    """Half the length of each point's error bar; empty for a line without points of its own."""


@dataclass(frozen=True)
class Plane:
    """What the lines are drawn on."""

    x: Axis
    y: Axis
    x_ticks: Sequence[float]
    x_name: str


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The finite points, at most `MOST_POINTS`, with the first and the last."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) <= MOST_POINTS:
        return finite
    last = len(finite) - 1
    return [finite[round(i * last / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def line_figure(
    identifier: str,
    title: str,
    says: str,
    lines: Sequence[Line],
    plane: Plane,
    subject: str,
) -> Markup:
    """The figure; parts of lines that are off the y axis are not drawn."""
    ended = [line for line in lines if line.points and plane.y.holds(line.points[-1][1])]
    height = max(_HEIGHT, _LABEL * len(ended))
    stretched = element(
        "svg",
        *(_drawn(line, plane, line.arm == subject) for line in lines),
        viewBox="0 0 1000 1000",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        class_="stretched",
    )
    return svg(
        identifier,
        title,
        says,
        *_grid(plane),
        stretched,
        *(mark for line in lines for mark in _marks(line, plane)),
        *_labels(ended, plane.y, height, subject),
        height=height + _TOP + _BOTTOM,
        class_="lines",
    )


def _grid(plane: Plane) -> list[Markup]:
    parts = []
    for tick in plane.y.ticks():
        at = percent(1 - plane.y.place(tick))
        parts.append(element("line", x1="0%", x2="100%", y1=at, y2=at, class_="rule"))
        label = text(f"{tick:.10g}")
        parts.append(element("text", label, x="0%", y=at, dx=-8, dy=4, class_="tick end"))
    below = [
        element("text", text(numbers.count(tick)), x=percent(plane.x.place(tick)), y=18)
        for tick in plane.x_ticks
    ]
    below.append(element("text", text(plane.x_name), x="50%", y=38, class_="name"))
    parts.append(element("svg", *below, y="100%", width="100%", class_="anchor ticks"))
    return parts


def _drawn(line: Line, plane: Plane, is_subject: bool) -> Markup:
    places = [(plane.x.place(x), 1 - plane.y.place(y)) for x, y in line.points]
    drawn = [
        element(
            "polyline",
            points=" ".join(f"{1000 * x:.0f},{_bounded(1000 * y):.0f}" for x, y in places),
            stroke_dasharray=color_of(line.arm).dash or None,
        )
    ]
    for (x, _), (_, loss), error in zip(places, line.points, line.errors, strict=False):
        top, bottom = (1 - plane.y.place(loss + sign * error) for sign in (1, -1))
        at = f"{1000 * x:.0f}"
        ends = {"y1": _bounded(1000 * top), "y2": _bounded(1000 * bottom)}
        drawn.append(element("line", x1=at, x2=at, **ends))
    return element("g", *drawn, class_=f"{arm_class(line.arm)}{' subject' * is_subject}")


def _bounded(place: float) -> float:
    # Further out nothing is seen, and a browser may lose precision.
    return min(max(place, -9999.0), 9999.0)


def _marks(line: Line, plane: Plane) -> list[Markup]:
    """A dot at each point that has an error bar."""
    return [
        element(
            "circle",
            cx=percent(plane.x.place(x)),
            cy=percent(1 - plane.y.place(y)),
            r=3.5,
            class_=arm_class(line.arm),
        )
        for (x, y), _ in zip(line.points, line.errors, strict=False)
        if plane.y.holds(y)
    ]


def _labels(lines: Sequence[Line], y_axis: Axis, height: float, subject: str) -> list[Markup]:
    """Names right of the ends, as near to them as they find room."""
    ends = [height * (1 - y_axis.place(line.points[-1][1])) for line in lines]
    parts = []
    for line, end, place in zip(lines, ends, spread(ends, _LABEL, height), strict=True):
        leader = element("line", x1=3, y1=f"{end:.1f}", x2=12, y2=f"{place:.1f}", class_="leader")
        swatch = element(
            "polyline",
            points=f"12,{place:.1f} 30,{place:.1f}",
            stroke_dasharray=color_of(line.arm).dash or None,
            class_=arm_class(line.arm),
        )
        name = element("text", text(line.label, LONGEST_LABEL), x=35, y=f"{place + 4:.1f}")
        class_ = "subject" if line.arm == subject else None
        parts.append(element("g", leader, swatch, name, class_=class_))
    return [element("svg", *parts, x="100%", class_="anchor labels")]


def spread(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Places at least `gap` apart within `height`, in the given order of size and near them."""
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    moved = [0.0] * len(places)
    lowest = gap / 2
    for i in order:
        moved[i] = max(places[i], lowest)
        lowest = moved[i] + gap
    highest = height - gap / 2
    for i in reversed(order):
        moved[i] = min(moved[i], highest)
        highest = moved[i] - gap
    return moved


def names_with_numbers(lines: Sequence[Line]) -> str:
    """ "ring 6.4123, identity 6.2911", for a description."""
    return ", ".join(
        f"{shown(line.label, 40)} {numbers.nats(line.points[-1][1])}" for line in lines
    )
