"""Loss against the number of qubits and of layers, and what that costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.arm import arm_label
from quantum_hybrid.report.study_page.axis import LogAxis, axis_around
from quantum_hybrid.report.study_page.curves import figure_of, near_lines, off_the_axis
from quantum_hybrid.report.study_page.lines import (
    Line,
    Plane,
    line_figure,
    names_with_numbers,
)
from quantum_hybrid.report.study_page.markup import Markup, element, joined, table, text

Row = Mapping[str, Any]
ROOM = 1.1
"""The axis of sizes goes this factor beyond them at either end."""
VARIED = {"n_qubits": "qubits", "n_layers": "layers"}
"""Field of a row that a figure varies -> its name."""


def scaling(rows: Sequence[Row], subject: str) -> Markup:
    """A figure for each number that is varied while the other stays, and a table of all."""
    finite = [row for row in rows if row["loss"] is not None and math.isfinite(row["loss"])]
    if not finite:
        return element("p", text("No finite loss yet."))
    parts = [_figure(finite, varied, subject) for varied in VARIED]
    return joined([*(part for part in parts if part is not None), _table(rows)])


def _figure(rows: Sequence[Row], varied: str, subject: str) -> Markup | None:
    """Loss of each arm against one number, where the other has its most frequent value."""
    (other,) = VARIED.keys() - {varied}
    sizes_at = Counter(fixed for _, fixed in {(row[varied], row[other]) for row in rows})
    fixed, n_sizes = max(sizes_at.items(), key=lambda item: (item[1], -item[0]))
    if n_sizes == 1:
        return None
    chosen = sorted((row for row in rows if row[other] == fixed), key=lambda row: row[varied])
    lines = [_line(arm, chosen, varied) for arm in dict.fromkeys(row["arm"] for row in chosen)]
    near = near_lines(lines, subject)
    sizes = sorted({row[varied] for row in chosen})
    name = VARIED[varied]
    plane = Plane(
        LogAxis(sizes[0] / ROOM, sizes[-1] * ROOM),
        axis_around([y for line in near for _, y in line.points]),
        sizes,
        name,
    )
    figure = line_figure(
        f"scaling-{name}",
        f"Loss against the number of {name}",
        f"Held-out loss with {sizes[-1]} {name}: {names_with_numbers(lines)}.",
        near,
        plane,
        subject,
    )
    far = [line for line in lines if line not in near]
    caption = (
        f"Held-out loss in nats per token against the number of {name}, with {fixed} "
        f"{VARIED[other]}; of the identity, n is the numbers between down and up. Each shape is "
        "tuned by itself, with fewer trials, seeds and training texts than the study. Bars are one "
        f"standard error over seeds either side.{off_the_axis(far)}"
    )
    return figure_of(figure, caption)


def _line(arm: str, rows: Sequence[Row], varied: str) -> Line:
    own = [row for row in rows if row["arm"] == arm]
    points = [(float(row[varied]), float(row["loss"])) for row in own]
    return Line(arm, arm, points, [float(row["standard_error"]) for row in own])


def _table(rows: Sequence[Row]) -> Markup:
    ordered = sorted(rows, key=lambda row: (row["n_layers"], row["n_qubits"]))
    cells = [
        [
            arm_label(row["arm"]),
            text(numbers.count(row["n_qubits"])),
            text(numbers.count(row["n_layers"])),
            text(numbers.nats(row["loss"])),
            text(numbers.nats(row["standard_error"])),
            text(numbers.count(row["multiply_adds"])),
        ]
        for row in ordered
    ]
    columns = ["arm", "qubits", "layers", "loss", "standard error", "multiply-adds a token"]
    return table("Loss and cost of every shape", columns, cells, "numbers")
