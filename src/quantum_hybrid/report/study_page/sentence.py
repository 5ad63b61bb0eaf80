"""The verdict of a study in one sentence, and of each regime in one."""

from __future__ import annotations

from quantum_hybrid.report.study_page import numbers
from quantum_hybrid.report.study_page.markup import capitalised
from quantum_hybrid.report.study_results import ComparedRival, RegimeResults, StudyResults
from quantum_hybrid.shown import shown

LONGEST_SENTENCE = 1000
NO_MAP, NO_ARM = "identity", "nothing"
"""The rivals that the sentence names: no map in the circuit's place, and nothing at all."""
WHERE = {
    "alone": "alone",
    "beside": "beside the healed backbone",
    "weak": "beside the backbone that was not healed",
    "planted": "in the positive control, where a ring circuit has written the text",
    "joint": "trained together with the backbone",
}
"""Regime -> where the subject stands."""
WITHOUT_ARM = {"alone": "the frequencies of words"}
"""Regime -> what is left without an arm; otherwise the classical pathway."""
VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "equivalent": "equivalent to",
    "inconclusive": "inconclusive against",
    "diverged": "without a verdict against",
}
"""Verdict on the subject -> its words before the rivals that it is about, in the order shown."""
AGAINST_NO_MAP = VERDICTS | {"inconclusive": "not told apart from", "diverged": "not compared with"}
"""The same before one rival."""


def verdict_sentence(results: StudyResults) -> str:
    """What all regimes say of the subject against no map at all, and what the control says."""
    opened = [regime for regime in results.regimes if regime.compared]
    if not opened:
        return (
            f"No verdict yet: {results.progress.done} of {results.progress.of} fits are done, "
            "and the held-out set has not been opened."
        )
    places: dict[str, list[str]] = {}
    for regime in opened:
        for rival in regime.compared:
            if rival.rival == NO_MAP and not regime.is_control:
                places.setdefault(rival.verdict, []).append(_where(regime))
    control = "".join(_control(regime, results) for regime in opened)
    if not places:
        return f"No regime compares {subject_name(results)} with no map at all{control}."
    said = [
        f"{' and '.join(where)}, it was {AGAINST_NO_MAP[verdict]} no map at all"
        for verdict, where in places.items()
    ]
    said[0] = said[0].replace(" it was ", f" {subject_name(results)} was ", 1)
    return f"{capitalised('; '.join(said), LONGEST_SENTENCE)}{control}."


def _control(regime: RegimeResults, results: StudyResults) -> str:
    if regime.positive is None:
        return ""
    found = "found" if regime.positive.verdict == "better" else "did not find"
    subject = shown(results.subject, 40)
    return (
        f"; on a text that a {subject} circuit had written, the study {found} that circuit to be "
        "better than no map"
    )


def regime_sentences(results: StudyResults) -> list[str]:
    """Of each regime whose held-out losses are known: against no map, and how often against all."""
    margin, subject = float(results.plan["margin"]), subject_name(results)
    opened = (regime for regime in results.regimes if regime.compared)
    return [
        f"{capitalised(_clause(regime, subject, margin), LONGEST_SENTENCE)}." for regime in opened
    ]


def subject_name(results: StudyResults) -> str:
    """The subject in a sentence."""
    return f"the {shown(results.subject, 40)} circuit"


def counted(regime: RegimeResults) -> str:
    """How many rivals have which verdict: "better than 3, worse than 9"."""
    found = [rival.verdict for rival in regime.compared]
    return ", ".join(
        f"{words} {found.count(verdict)}" for verdict, words in VERDICTS.items() if verdict in found
    )


def _clause(regime: RegimeResults, subject: str, margin: float) -> str:
    n = len(regime.compared)
    where = _where(regime)
    rivals = f"{n} {'rival' if n == 1 else 'rivals'}"
    named = {
        NO_MAP: "no map at all",
        NO_ARM: WITHOUT_ARM.get(regime.name, "the classical pathway by itself"),
    }
    found = {rival.rival: rival for rival in regime.compared}
    against = [_against(found[name], words, margin) for name, words in named.items()
               if name in found]  # fmt: skip
    if not against:
        return f"{where}, {subject} was, of {rivals}, {counted(regime)}"
    return f"{where}, {subject} {' and '.join(against)}; of {rivals}, it was {counted(regime)}"


def _where(regime: RegimeResults) -> str:
    return WHERE.get(regime.name, f"in the regime {shown(regime.name, 40)}")


def _against(rival: ComparedRival, words: str, margin: float) -> str:
    """The verdict against a rival that is called so."""
    difference, low, high = rival.difference, rival.low, rival.high
    if difference is None or low is None or high is None or rival.verdict == "diverged":
        return f"was not compared with {words}, because a fit diverged"
    interval = f"95 % interval {numbers.interval(low, high)}"
    if rival.verdict == "equivalent":
        return (
            f"was equivalent to {words} (difference {numbers.signed(difference)} nats per "
            f"token, {interval}, within the margin of {numbers.figure(margin)})"
        )
    if rival.verdict == "inconclusive":
        return (
            f"was neither told apart from {words} nor shown to be equivalent to it "
            f"(difference {numbers.signed(difference)} nats per token, {interval})"
        )
    sign = 1 if rival.verdict == "better" else -1
    least, most = sorted((sign * low, sign * high))
    return (
        f"was {rival.verdict} than {words} by {numbers.nats(sign * difference)} nats per "
        f"token (95 % interval {numbers.nats(least)} to {numbers.nats(most)})"
    )
