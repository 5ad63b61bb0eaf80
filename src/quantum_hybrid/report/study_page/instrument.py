"""The instrument's own test: what the study's method finds where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.markup import Markup, element, joined, paragraph, table, text


def instrument(found: Mapping[str, Any]) -> Markup:
    """The table of planted effects, and the command that made it."""
    rows = [
        [
            text(_planted(row["planted"])),
            text(f"{numbers.count(row['n_seeds'])} x {numbers.count(row['n_prompts'])}"),
            text(numbers.count(row["n_studies"])),
            text(numbers.share(row["told_apart"])),
            text(numbers.share(row["equivalent"])),
            text(numbers.share(row["covered"])),
            text(numbers.signed(row["mean_difference"])),
        ]
        for row in found["rows"]
    ]
    columns = ["planted effect", "seeds x texts", "studies", "told apart", "equivalent", "covered"]
    columns.append("mean difference")
    about = (
        "Small studies were repeated on targets with a known effect: their fits and their "
        "intervals are those of a study, but they have one rival and few words, and nothing is "
        "tuned. So they test the intervals, and the tuning is tested by the regime planted. An "
        "effect of 0 is a study of two copies of one arm: what it tells apart is a false positive, "
        "and should be at most "
        "5 %. For the other effects, “told apart” is the power. “Covered” is how often the 95 % "
        "interval holds the truth, the mean of the other studies, on other training texts: less "
        "than 95 % means that intervals are too narrow for another training text."
    )
    command = element("code", text(str(found["command"]), 1000))
    commit = element("code", text(str(found["commit"]), 60))
    source = joined([text("Made by"), command, text("at commit"), commit], " ")
    caption = "Studies with planted effects, in nats per token"
    return joined(
        [paragraph(about), table(caption, columns, rows, "numbers"), element("p", source)]
    )


def _planted(effect: float) -> str:
    return "0 (A/A)" if effect == 0 else numbers.figure(effect)
