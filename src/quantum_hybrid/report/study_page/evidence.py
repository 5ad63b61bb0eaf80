"""The figures behind the verdicts: held-out losses, variance components, second opinions."""

from __future__ import annotations

from statistics import stdev

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.arm import arm_label
from quantum_hybrid.report.study_page.markup import (
    Markup,
    capitalised,
    details,
    joined,
    paragraph,
    table,
    text,
)
from quantum_hybrid.report.study_results import ArmLosses, RegimeResults, StudyResults

MOST_SEEDS = 30
"""Seeds whose losses the page shows; the tables hold all."""


def losses(results: StudyResults, regime: RegimeResults) -> Markup:
    """Held-out losses of a regime's arms, best first, and those of every seed."""
    facts = {arm.name: arm for arm in results.arms}
    rows = []
    for name, found in sorted(regime.losses.items(), key=_by_mean):
        arm = facts.get(name)
        rows.append(
            [
                arm_label(name),
                text(numbers.count(arm.n_parameters if arm else None)),
                text(numbers.count(arm.multiply_adds if arm else None)),
                text(numbers.nats(found.mean)),
                text(numbers.perplexity(found.mean)),
                text(numbers.nats(_spread(found))),
                text(_diverged(found)),
            ]
        )
    columns = ["arm", "parameters", "multiply-adds", "mean loss", "perplexity"]
    columns += ["SD over seeds", "diverged"]
    caption = (
        f"{capitalised(regime.name)}: held-out loss of each arm in nats per token, best first, "
        "with its standard deviation (SD) over seeds. Parameters are the trainable ones of the "
        "arm's map, multiply-adds those of one token."
    )
    of_arms = table(caption, columns, rows, "numbers cards")
    return joined([of_arms, *([_uses(regime)] if regime.uses else []), _of_seeds(regime)])


def _uses(regime: RegimeResults) -> Markup:
    rows = [
        [
            arm_label(name),
            text(numbers.share(use.nonlinear)),
            text(numbers.figure(use.moved)),
            text(numbers.count(use.directions)),
        ]
        for name, use in regime.uses.items()
    ]
    caption = (
        f"{capitalised(regime.name)}: share of the variance of each map's outputs that no affine "
        "map of its angles explains; largest change of a parameter by the training, for a circuit "
        "in radians (both means over seeds); directions in which the outputs vary (fewest of all "
        "seeds)"
    )
    return table(caption, ["arm", "not linear", "moved", "directions"], rows, "numbers")


def _of_seeds(regime: RegimeResults) -> Markup:
    seeds = sorted({seed for found in regime.losses.values() for seed in found.of_seeds})
    kept = seeds[:MOST_SEEDS]
    rows = [
        [arm_label(name), text(", ".join(_loss_of(found, seed) for seed in kept), 1000)]
        for name, found in regime.losses.items()
    ]
    numbered = ", ".join(map(str, kept))
    left_out = f"; {len(seeds) - len(kept)} more are in losses.csv" if seeds[MOST_SEEDS:] else ""
    caption = (
        f"{capitalised(regime.name)}: held-out losses of each arm in nats per token, with the "
        f"seeds {numbered}{left_out}"
    )
    return details("Every seed", table(caption, ["arm", "losses"], rows, "lists"))


def _loss_of(found: ArmLosses, seed: int) -> str:
    if seed not in found.of_seeds:
        return numbers.MISSING
    loss = found.of_seeds[seed]
    return "diverged" if loss is None else numbers.nats(loss)


def _by_mean(item: tuple[str, ArmLosses]) -> tuple[bool, float]:
    mean = item[1].mean
    return mean is None, mean or 0.0


def _spread(found: ArmLosses) -> float | None:
    values = [loss for loss in found.of_seeds.values() if loss is not None]
    return stdev(values) if found.mean is not None and len(values) > 1 else None


def _diverged(found: ArmLosses) -> str:
    n = sum(loss is None for loss in found.of_seeds.values())
    return f"{n} of {len(found.of_seeds)}" if n else "0"


def variances(regime: RegimeResults) -> Markup:
    """What makes a regime's differences uncertain, and how many seeds would settle them."""
    names = list(dict.fromkeys(name for r in regime.compared for name in r.variances or {}))
    rows = [
        [
            arm_label(rival.rival),
            *(text(numbers.figure((rival.variances or {}).get(name))) for name in names),
            text(rival.verdict, 40),
            text(_needed(rival.seeds_needed, rival.difference)),
        ]
        for rival in regime.compared
    ]
    columns = ["rival", *names, "verdict", "seeds needed"]
    caption = (
        f"{capitalised(regime.name)}: variance components of the difference, in squared nats per "
        "token, and the seeds that give a verdict with 90 % power if the true difference is the "
        "one found"
    )
    return table(caption, columns, rows, "numbers")


def _needed(seeds: int | None, difference: float | None) -> str:
    if difference is None:
        return numbers.MISSING
    return "more texts" if seeds is None else numbers.count(seeds)


def second_opinions(regime: RegimeResults) -> Markup:
    """The p-values of a regime: those that the verdicts rest on, and two other tests."""
    rows = [
        [
            arm_label(rival.rival),
            text(rival.verdict, 40),
            *(
                text(numbers.probability(p))
                for p in (rival.p_different, rival.p_within, rival.p_t, rival.p_wilcoxon)
            ),
            text(numbers.interval(rival.low_elsewhere, rival.high_elsewhere)),
        ]
        for rival in regime.compared
    ]
    columns = ["rival", "verdict", "p of no difference", "p of not within the margin"]
    columns += ["paired t over seeds", "Wilcoxon over seeds", "other training texts"]
    caption = (
        f"{capitalised(regime.name)}: p-values of the verdicts, adjusted by Holm, and of two other "
        "tests; and the 95 % interval if the training texts were others"
    )
    return table(caption, columns, rows, "numbers")


ABOUT_VARIANCES = paragraph(
    "More seeds reduce what the components of seeds and of the rest contribute; more held-out "
    "texts reduce what those of texts and of the rest contribute. “More texts” means that no "
    "number of seeds is enough with the held-out texts that there are."
)
ABOUT_OPINIONS = paragraph(
    "The verdicts rest on the multi-bootstrap over seeds and prompts. The paired t test and "
    "Wilcoxon's signed-rank test over seeds take the prompts as given and are not adjusted. "
    "Each seed is trained on half of the same texts. The last column is an interval of the "
    "difference after training on other texts: the variance between seeds counts in full. It does "
    "not hold what a backbone healed on other texts or another tuning would change."
)
