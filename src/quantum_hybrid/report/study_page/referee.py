"""What a referee rejects in such a study, how this one answers, and what it does not say.

An answer is read off the results wherever it can be: a study that falls short says so here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.markup import Markup, bullets, element, table, text
from quantum_hybrid.report.study_results import StudyResults

MET, NOT_MET, OPEN = "met", "not met", "open"
FROZEN = ("frozen ring", "frozen random")


@dataclass(frozen=True)
class Objection:
    """What a referee rejects."""

    says: str
    answer: Callable[[StudyResults], tuple[str, str]]
    """Whether the study meets it, and how."""


def _pathways(results: StudyResults) -> tuple[str, str]:
    if joint := [regime.name for regime in results.regimes if not regime.is_frozen]:
        return NOT_MET, f"In the regime {joint[0]} the backbone is trained together with each arm."
    return MET, (
        "Each rival is a fit of its own, with the same down, tanh and up, from the same kind of "
        "start and on the same rows; a classical pathway beside it is frozen."
    )


def _no_effect(results: StudyResults) -> tuple[str, str]:
    margin = numbers.figure(float(results.plan["margin"]))
    return MET, (
        f"“Equivalent” is said only if two one-sided tests place the difference within ±{margin}; "
        "a difference that is neither told from 0 nor placed there is inconclusive."
    )


def _units(results: StudyResults) -> tuple[str, str]:
    unit = "prompt" if results.text is None else results.text.unit
    n = len({seed for r in results.regimes for a in r.losses.values() for seed in a.of_seeds})
    seeds = f"{n} seeds" if n else "seeds"
    return MET, f"The unit is the {unit}, crossed with {seeds}; tokens only weigh a {unit}'s mean."


def _tuning(results: StudyResults) -> tuple[str, str]:
    if untuned := [regime.name for regime in results.regimes if not regime.is_tuned]:
        return NOT_MET, f"In the regime {untuned[0]} nothing is tuned."
    trials = {arm.n_trials for regime in results.regimes for arm in regime.tuned.values()}
    if not trials:
        return OPEN, "No arm is tuned yet."
    if len(trials) > 1:
        return NOT_MET, f"Arms had from {min(trials)} to {max(trials)} trials."
    (n,) = trials
    return MET, (
        f"Each arm had {n} trials in each regime, judged on texts of their own, with one seed. "
        "What another tuning would have chosen is in no interval."
    )


def _compute(results: StudyResults) -> tuple[str, str]:
    of = {arm.name: arm.multiply_adds for arm in results.arms}
    most = [name for name, n in of.items() if n >= of[results.subject] and name != results.subject]
    says = "Trainable parameters and multiply-adds stand beside each arm."
    if not most:
        return NOT_MET, f"{says} No rival takes as many multiply-adds as the circuit."
    return MET, f"{says} Rivals that take as many multiply-adds or more: {', '.join(most)}."


def _controls(results: StudyResults) -> tuple[str, str]:
    names = {arm.name for arm in results.arms}
    missing = [] if "identity" in names else ["no map at all"]
    if not names & set(FROZEN):
        missing.append("a frozen circuit")
    if missing:
        return NOT_MET, f"Without {' and '.join(missing)} among the rivals."
    return MET, "No map at all and a frozen circuit are among the rivals."


def _looks(results: StudyResults) -> tuple[str, str]:
    n = len(results.looks)
    if n == 0:
        return OPEN, "The held-out set has not been opened."
    if n > 1:
        return NOT_MET, f"The held-out set has been evaluated {n} times."
    return MET, "The held-out set was opened once, after the last fit."


def _ceiling(results: StudyResults) -> tuple[str, str]:
    gains = {r.name: r.best_gain for r in results.regimes if not r.is_control}
    known = {name: gain for name, gain in gains.items() if gain is not None}
    if not known:
        return OPEN, "What the arms gain over nothing at all is not known."
    said = ", ".join(f"{name} {numbers.nats(gain)}" for name, gain in known.items())
    margin = float(results.plan["margin"])
    status = MET if max(known.values()) > margin else NOT_MET
    return status, f"The best arm gains over nothing at all, in nats per token: {said}."


def _quantum(results: StudyResults) -> tuple[str, str]:
    return MET, "It is not claimed: see what this study does not say."


def _one_ansatz(results: StudyResults) -> tuple[str, str]:
    names = {arm.name for arm in results.arms}
    others = [n for n in ("no entangler", "chain", "ring once", "re-uploading") if n in names]
    among = f" Among the rivals are other circuits: {', '.join(others)}." if others else ""
    return MET, f"The verdict is about this circuit only.{among}"


def _stopping(results: StudyResults) -> tuple[str, str]:
    if results.progress.missing and any(regime.compared for regime in results.regimes):
        return NOT_MET, "Verdicts are shown although a part of the plan is missing."
    return MET, (
        "The number of seeds is part of the plan, which is hashed before the first fit; verdicts "
        "are computed after the last planned one."
    )


def _positive_control(results: StudyResults) -> tuple[str, str]:
    controls = [regime for regime in results.regimes if regime.is_control]
    if not controls:
        return NOT_MET, "This study has no regime in which a circuit has written the text."
    found = controls[0].positive
    if found is None:
        return OPEN, "The positive control is not judged."
    return MET if found.verdict == "better" else NOT_MET, (
        "On text that circuits have written, after the same tuning and training, these circuits "
        f"were {found.verdict} against no map at all: {numbers.signed(found.difference)} nats per "
        f"token ({numbers.interval(found.low, found.high)})."
    )


OBJECTIONS = (
    Objection("Pathways that are trained together are called rivals.", _pathways),
    Objection("“Not significant” is read as “no effect”.", _no_effect),
    Objection("Tokens are taken for independent units.", _units),
    Objection("One side is tuned more than the other.", _tuning),
    Objection("Parameters are matched and compute is not.", _compute),
    Objection("There is no identity and no frozen circuit among the rivals.", _controls),
    Objection("The test set was looked at before.", _looks),
    Objection("A ceiling hides any difference.", _ceiling),
    Objection("“Quantum” is claimed for a few simulated qubits.", _quantum),
    Objection("One ansatz is generalised.", _one_ansatz),
    Objection("The study stopped when the result looked good.", _stopping),
    Objection("There is no positive control.", _positive_control),
)


def objections(results: StudyResults) -> Markup:
    """The table of objections and answers."""
    rows = []
    for objection in OBJECTIONS:
        status, answer = objection.answer(results)
        class_ = f"status {status.replace(' ', '-')}"
        rows.append(
            [text(objection.says), element("span", text(status), class_=class_), text(answer)]
        )
    caption = "What a referee rejects, and how this study answers"
    return table(caption, ["objection", "status", "answer"], rows, "cards")


def limits(results: StudyResults) -> Markup:
    """What the verdicts do not say."""
    n = results.plan.get("n_qubits")
    qubits = f"{n} qubits" if isinstance(n, int) else "A few qubits"
    return bullets(
        text(line)
        for line in (
            f"{qubits}, simulated exactly. Each circuit of real rotations and CNOTs with Z readout "
            "is a trigonometric polynomial in its inputs, and the second one reads the first one's "
            "outputs, so both have an exact classical description. Nothing here is an advantage of "
            "quantum hardware.",
            "One teacher and one source of text: other texts may give another verdict.",
            "The intervals cover other seeds and other held-out texts, after training on these "
            "texts. All seeds share the healed backbone, the training texts from which each draws "
            "its half, and what the tuning chose, so for other training texts or another tuning "
            "the intervals are too narrow.",
            "Intervals are not adjusted for the number of rivals; verdicts are, by Holm, within a "
            "regime: once for “better” and “worse” and once for “equivalent”. They are not "
            "adjusted for the number of regimes.",
            "One size of language model and of circuit, unless the study compared several.",
            "One ansatz with one encoding: other circuits may do better or worse.",
            "“Equivalent” means within the margin of the plan, not identical.",
        )
    )
