"""The subject against each rival of a regime: a table whose rows hold a dot and its interval.

A difference is the rival's loss minus the subject's, so right of 0 the circuit is better. A rival
that is far from the others would press them together; it lies off the axis, marked by an arrow.
"""

from __future__ import annotations

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.arm import arm_label, arm_size
from quantum_hybrid.report.study_page.axis import Axis, reach
from quantum_hybrid.report.study_page.colors import arm_class
from quantum_hybrid.report.study_page.markup import (
    EMPTY,
    Markup,
    capitalised,
    element,
    joined,
    percent,
    svg,
    text,
)
from quantum_hybrid.report.study_results import (
    ArmFacts,
    ComparedRival,
    RegimeResults,
    StudyResults,
)
from quantum_hybrid.shown import shown

MARKS = {
    "better": ("▲", "circuit better"),
    "worse": ("▼", "circuit worse"),
    "equivalent": ("≈", "equivalent"),
    "inconclusive": ("?", "inconclusive"),
    "diverged": ("✕", "diverged, no verdict"),
}
"""Verdict -> a mark and words."""
_ROW, _HEAD = 40, 46
"""Heights in pixels."""


def forest(results: StudyResults, regime: RegimeResults, identifier: str) -> Markup:
    """The table of a regime; `identifier` begins the ids of its figures."""
    margin = float(results.plan["margin"])
    axis = _axis(regime, margin)
    facts = {arm.name: arm for arm in results.arms}
    rows = [
        _row(rival, facts.get(rival.rival), axis, margin, f"{identifier}-{i}")
        for i, rival in enumerate(regime.compared)
    ]
    caption = (
        f"{capitalised(regime.name)}: loss of each rival minus the loss of "
        f"{shown(results.subject, 40)}, in nats per token, with 95 % intervals. The band is the "
        f"margin of ±{numbers.figure(margin)}. Parameters are the trainable ones of the rival's "
        "map, multiply\u2011adds those of one token. An arrow leads to what is off the axis."
    )
    head = element(
        "tr",
        element("th", text("rival"), scope="col"),
        element("th", _scale(axis, margin, f"{identifier}-axis"), scope="col", class_="scale"),
        element("th", text("difference"), scope="col", class_="number"),
        element("th", text("verdict"), scope="col"),
    )
    return element(
        "table",
        element("caption", text(caption)),
        element("thead", head),
        element("tbody", joined(rows)),
        class_="forest",
    )


def _axis(regime: RegimeResults, margin: float) -> Axis:
    extents = [
        max(abs(rival.low), abs(rival.high))
        for rival in regime.compared
        if rival.low is not None and rival.high is not None
    ]
    most = 1.08 * reach(extents, 2 * margin)
    return Axis(-most, most)


def _row(
    rival: ComparedRival, facts: ArmFacts | None, axis: Axis, margin: float, identifier: str
) -> Markup:
    mark, words = MARKS.get(rival.verdict, ("", shown(rival.verdict, 40)))
    size = EMPTY
    if facts is not None:
        size = joined(element("small", text(line)) for line in (facts.says, arm_size(facts)))
    return element(
        "tr",
        element("th", arm_label(rival.rival), size, scope="row"),
        element("td", _interval(rival, axis, margin, identifier, words), class_="plot"),
        element(
            "td",
            element("span", text(numbers.signed(rival.difference)), class_="value"),
            element("small", text(numbers.interval(rival.low, rival.high))),
            class_="number",
        ),
        element(
            "td",
            element("span", text(mark), class_="mark", aria_hidden="true"),
            text(words),
            class_=f"verdict {words.split(',')[0].replace(' ', '-')}" if mark else "verdict",
        ),
    )


def _scale(axis: Axis, margin: float, identifier: str) -> Markup:
    """The axis above the intervals, with the sides named."""
    parts = [
        element("text", text("← circuit worse"), x="0%", y=12, class_="side"),
        element("text", text("circuit better →"), x="100%", y=12, class_="side end"),
    ]
    ticks = axis.ticks(4)
    for tick in ticks:
        at = percent(axis.place(tick))
        label = "0" if tick == 0 else numbers.figure(tick)
        parts.append(element("text", text(label), x=at, y=_HEAD - 10, class_="tick"))
        parts.append(element("line", x1=at, x2=at, y1=_HEAD - 6, y2=_HEAD, class_="rule"))
    says = (
        f"The axis goes from {numbers.signed(axis.low)} to {numbers.signed(axis.high)} nats per "
        f"token; the margin from {numbers.figure(-margin)} to {numbers.figure(margin)} is a band. "
        "Right of 0 the circuit is better."
    )
    return svg(
        identifier, "Axis of the differences", says, *parts, height=_HEAD, class_="differences"
    )


def _interval(
    rival: ComparedRival, axis: Axis, margin: float, identifier: str, words: str
) -> Markup:
    band = element(
        "rect",
        x=percent(axis.place(-margin)),
        width=percent(axis.place(margin) - axis.place(-margin)),
        y=0,
        height="100%",
        class_="band",
    )
    zero = element("line", x1="50%", x2="50%", y1=0, y2="100%", class_="zero")
    says = f"{shown(rival.rival, 40)}: {words}."
    drawn: list[Markup] = []
    if rival.difference is not None and rival.low is not None and rival.high is not None:
        found = numbers.signed(rival.difference)
        says = (
            f"{shown(rival.rival, 40)}: {words}; {found} nats per token, "
            f"95 % interval {numbers.interval(rival.low, rival.high)}."
        )
        drawn = _drawn(rival.difference, rival.low, rival.high, axis)
    return svg(
        identifier,
        f"Difference from {shown(rival.rival, 40)}",
        says,
        band,
        zero,
        element("g", *drawn, class_=arm_class(rival.rival)),
        height=_ROW,
        class_="differences",
    )


def _drawn(difference: float, low: float, high: float, axis: Axis) -> list[Markup]:
    parts = []
    if high >= axis.low and low <= axis.high:
        ends = {"x1": percent(axis.clipped(low)), "x2": percent(axis.clipped(high))}
        parts.append(element("line", **ends, y1="50%", y2="50%", class_="interval"))
    if axis.holds(difference):
        parts.append(element("circle", cx=percent(axis.place(difference)), cy="50%", r=5))
    if high > axis.high:
        parts.append(_arrow("100%", "M-9-6 0 0-9 6z", difference, axis, anchor="end", dx=-14))
    if low < axis.low:
        parts.append(_arrow("0%", "M9-6 0 0 9 6z", difference, axis, anchor="start", dx=14))
    return parts


def _arrow(x: str, shape: str, difference: float, axis: Axis, anchor: str, dx: int) -> Markup:
    label = EMPTY
    if not axis.holds(difference) and (difference > 0) == (anchor == "end"):
        found = numbers.signed(difference)
        label = element("text", text(found), x=dx, y=4, text_anchor=anchor, class_="off")
    # Pixels around a place that is given in percent.
    return element("svg", element("path", d=shape), label, x=x, y="50%", class_="anchor")
