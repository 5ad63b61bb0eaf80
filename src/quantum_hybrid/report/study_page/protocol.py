"""What was planned and what was done: the plan, deviations, tuning, texts and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.arm import arm_label
from quantum_hybrid.report.study_page.markup import (
    Markup,
    bullets,
    capitalised,
    details,
    element,
    joined,
    paragraph,
    passage,
    table,
    text,
)
from quantum_hybrid.report.study_results import RegimeResults, StudyResults, TextFacts

MOST_SAMPLES, LONGEST_SAMPLE = 6, 700
"""Samples that are shown, and characters of a prompt or an answer."""
MOST_FIELDS = 80
"""Rows of a table of names and values."""
MOST_MISSING = 40


def plan_and_deviations(results: StudyResults) -> Markup:
    """What deviates from the plan, and the plan itself."""
    missing = results.progress.missing
    parts = [element("h3", text("Deviations from the plan"))]
    if missing:
        parts.append(bullets(text(line) for line in missing[:MOST_MISSING]))
        if len(missing) > MOST_MISSING:
            parts.append(paragraph(f"{len(missing) - MOST_MISSING} more are missing."))
    else:
        parts.append(
            paragraph(
                f"None: all {numbers.count(results.progress.of)} planned fits are done, and every "
                "planned regime and arm is on this page."
            )
        )
    fields = named_values("The plan", results.plan)
    return joined([*parts, element("h3", text("Plan")), details("All fields of the plan", fields)])


def named_values(caption: str, values: Mapping[str, Any]) -> Markup:
    """A table of names and values."""
    rows = [
        [text(str(name), 60), element("bdi", text(_plain(value)))]
        for name, value in list(values.items())[:MOST_FIELDS]
    ]
    return table(caption, ["field", "value"], rows)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False, default=str)


def tuning(regime: RegimeResults) -> Markup:
    """The settings that the tuning chose in a regime."""
    names = list(dict.fromkeys(name for arm in regime.tuned.values() for name in arm.settings))
    rows = [
        [
            arm_label(name),
            *(text(numbers.figure(arm.settings.get(setting))) for setting in names),
            text(numbers.nats(arm.validation_loss)),
            text(numbers.nats(arm.wide_loss)),
            text(numbers.count(arm.n_trials)),
            text(numbers.count(arm.n_diverged)),
        ]
        for name, arm in regime.tuned.items()
    ]
    columns = ["arm", *names, "validation loss", "wide", "trials", "diverged trials"]
    caption = (
        f"{capitalised(regime.name)}: settings that the tuning chose, and their validation loss. "
        "The rate of down is in units of the spread, that of a circuit in radians. Wide is the "
        "best validation loss of a trial with a spread of 0.1 and more."
    )
    return details(f"Tuning, {regime.name}", table(caption, columns, rows, "numbers"))


def text_facts(facts: TextFacts) -> Markup:
    """How many units and tokens each part has, and what was left out."""
    rows = [
        [
            text(part, 40),
            text(numbers.count(facts.n_units.get(part))),
            text(numbers.count(facts.n_tokens.get(part))),
        ]
        for part in dict.fromkeys([*facts.n_units, *facts.n_tokens])
    ]
    columns = ["part", f"{facts.unit}s", "tokens"]
    left_out = (
        "; ".join(f"{reason}: {numbers.count(n)}" for reason, n in facts.left_out.items())
        or "nothing"
    )
    return joined(
        [
            paragraph(
                f"Source: {facts.source.rstrip('.')}. The unit that is drawn independently is the "
                f"{facts.unit}."
            ),
            table("Size of each part of the text", columns, rows, "numbers"),
            paragraph(f"Left out: {left_out}."),
        ]
    )


def samples(facts: TextFacts) -> Markup:
    """Some prompts and answers. They are text of a model: each has a direction of its own."""
    shown_ones = [
        element(
            "div",
            *(
                element(
                    "div",
                    element("h4", text(kind)),
                    element(
                        "div", passage(words, LONGEST_SAMPLE), class_=f"text {kind}", dir="auto"
                    ),
                )
                for kind, words in (("prompt", sample.prompt), ("answer", sample.answer))
            ),
            class_="sample",
        )
        for sample in facts.samples[:MOST_SAMPLES]
    ]
    n = len(facts.samples[:MOST_SAMPLES])
    summary = f"{n} of {len(facts.samples)} samples, each cut at {LONGEST_SAMPLE} characters"
    return joined([element("h3", text("Samples")), details(summary, *shown_ones)])


def cost(results: StudyResults) -> Markup:
    """Seconds of each stage."""
    rows = [[text(stage, 60), text(numbers.seconds(s))] for stage, s in results.seconds.items()]
    caption = "Time of each stage: of processors for fits, of the clock for the others"
    return table(caption, ["stage", "time"], rows, "numbers")
