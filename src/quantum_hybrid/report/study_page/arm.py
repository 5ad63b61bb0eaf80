"""An arm in words: its name behind a piece of its line, and its size."""

from __future__ import annotations

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.colors import arm_class
from quantum_hybrid.report.study_page.markup import Markup, element, joined, text
from quantum_hybrid.report.study_results import ArmFacts, StudyResults

LONGEST_NAME = 40


def arm_label(name: str) -> Markup:
    """The arm's name behind a piece of its line."""
    swatch = element("span", class_=f"swatch {arm_class(name)}", aria_hidden="true")
    return joined([swatch, element("bdi", text(name, LONGEST_NAME))], " ")


def arm_size(facts: ArmFacts) -> str:
    """Parameters and compute of an arm."""
    return (
        f"{numbers.count(facts.n_parameters)} parameters, "
        f"{numbers.count(facts.multiply_adds)} multiply\u2011adds"
    )


def names_of_arms(results: StudyResults) -> list[str]:
    """Every arm that the results name, each once, those of `results.arms` first."""
    names = [arm.name for arm in results.arms]
    for regime in results.regimes:
        names += [*regime.tuned, *regime.curves, *regime.losses]
        names += [rival.rival for rival in regime.compared]
    if results.scaling is not None:
        names += [row["arm"] for row in results.scaling["rows"]]
    return list(dict.fromkeys(names))
