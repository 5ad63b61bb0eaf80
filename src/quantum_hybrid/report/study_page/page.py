"""A study as one HTML file: its verdicts, the figures behind them, and where they come from.

The file loads nothing and has no script; its Content-Security-Policy forbids both. It is the same
for the same results. While the study goes on the page reloads itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.report.study_page import numbers, protocol, referee
from quantum_hybrid.report.study_page.arm import names_of_arms
from quantum_hybrid.report.study_page.colors import color_sheet
from quantum_hybrid.report.study_page.curves import learning_curves
from quantum_hybrid.report.study_page.evidence import (
    ABOUT_OPINIONS,
    ABOUT_VARIANCES,
    losses,
    second_opinions,
    variances,
)
from quantum_hybrid.report.study_page.forest import forest
from quantum_hybrid.report.study_page.instrument import instrument
from quantum_hybrid.report.study_page.markup import (
    EMPTY,
    Markup,
    bullets,
    capitalised,
    element,
    joined,
    paragraph,
    table,
    text,
)
from quantum_hybrid.report.study_page.scaling import scaling
from quantum_hybrid.report.study_page.sentence import (
    LONGEST_SENTENCE,
    regime_sentences,
    subject_name,
    verdict_sentence,
)
from quantum_hybrid.report.study_page.style import STYLE
from quantum_hybrid.report.study_results import RegimeResults, StudyResults

TITLE = "Does the circuit help?"
REFRESH_SECONDS = 20
MOST_LOOKS = 20


def write_study_page(
    results: StudyResults, path: Path, refresh_seconds: int = REFRESH_SECONDS
) -> None:
    """Write the page; a reader finds the old one or the new one. Raises `OSError`."""
    write_bytes(path, study_page(results, refresh_seconds).encode("utf-8"))


def study_page(results: StudyResults, refresh_seconds: int = REFRESH_SECONDS) -> str:
    """The page; an unfinished study's reloads itself after that many seconds."""
    content = _content(results)
    body = joined([_header(results), _contents(content), *_sections(content)])
    html = element(
        "html",
        _head(results, refresh_seconds),
        element("body", element("main", body)),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{html}\n"


def _head(results: StudyResults, refresh_seconds: int) -> Markup:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    refresh = element("meta", http_equiv="refresh", content=refresh_seconds)
    sheet = f"\n{color_sheet(names_of_arms(results))}{STYLE}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        refresh if results.progress.missing else EMPTY,
        element("title", text(TITLE)),
        element("style", Markup(sheet)),
    )


def _header(results: StudyResults) -> Markup:
    n = len(results.arms) - 1
    about = (
        f"{subject_name(results).capitalize()} in a small language model, against "
        f"{n} {'rival' if n == 1 else 'rivals'} that could stand in its place."
    )
    return element(
        "header", element("h1", text(TITLE)), paragraph(about, "about"), _warnings(results)
    )


def _warnings(results: StudyResults) -> Markup:
    """What a reader must know before anything else."""
    found = [text(note, 1000) for note in results.notes]
    if results.is_quick:
        found.insert(0, text("A quick study: it shows how the method works and proves nothing."))
    if len(results.looks) > 1:
        found.append(
            text(
                f"Held-out texts of this study have been evaluated {len(results.looks)} times. "
                "After the first time, a verdict on them is weaker than it looks."
            )
        )
    return element("div", bullets(found), class_="warnings", role="note") if found else EMPTY


Content = Sequence[tuple[str, str, Markup]]
"""Identifier, title and content of each section, in the order of the page."""


def _sections(sections: Content) -> list[Markup]:
    return [
        element(
            "section",
            element("h2", text(title), id=f"{identifier}-title"),
            content,
            id=identifier,
            aria_labelledby=f"{identifier}-title",
        )
        for identifier, title, content in sections
    ]


def _contents(sections: Content) -> Markup:
    links = (element("a", text(title), href=f"#{identifier}") for identifier, title, _ in sections)
    return element("nav", bullets(links), aria_label="Contents")


def _content(results: StudyResults) -> Content:
    found = [
        ("verdict", _verdict_title(results), _verdict(results)),
        ("rivals", "Against each rival", _of_regimes(results, _rivals)),
        ("losses", "Held-out losses", _of_regimes(results, _losses)),
        ("curves", "Learning curves", _of_regimes(results, _curves)),
        ("plan", "What was planned and what was done", _plan(results)),
        ("variances", "Variance, and the seeds that would settle it", _variances(results)),
        ("opinions", "Second opinions", _opinions(results)),
    ]
    if results.scaling is not None:
        content = scaling(results.scaling["rows"], results.subject)
        found.append(("scaling", "More qubits, more layers", content))
    if results.instrument is not None:
        found.append(("instrument", "The instrument's own test", instrument(results.instrument)))
    if results.text is not None:
        content = joined([protocol.text_facts(results.text), protocol.samples(results.text)])
        found.append(("text", "The text", content))
    return [
        *found,
        ("cost", "Cost", protocol.cost(results)),
        ("referee", "What a referee rejects", referee.objections(results)),
        ("limits", "What this study does not say", referee.limits(results)),
        ("record", "Where this comes from", _record(results)),
    ]


def _verdict_title(results: StudyResults) -> str:
    return "The study is not finished" if results.progress.missing else "The verdict"


def _verdict(results: StudyResults) -> Markup:
    progress = results.progress
    lead = element("p", text(verdict_sentence(results), LONGEST_SENTENCE), class_="lead")
    said = [
        lead,
        *(element("p", text(one, LONGEST_SENTENCE)) for one in regime_sentences(results)),
    ]
    if not progress.missing:
        return joined(said)
    now = (
        f"Now: {progress.stage}. {numbers.count(progress.done)} of {numbers.count(progress.of)} "
        f"fits are done. Missing: {'; '.join(progress.missing[: protocol.MOST_MISSING])}."
    )
    return joined([element("p", text(now, 1000), class_="progress"), *said])


def _of_regimes(
    results: StudyResults, part: Callable[[StudyResults, RegimeResults, str], Markup]
) -> Markup:
    """A part for each regime, under its name."""
    if not results.regimes:
        return paragraph("No regime yet.")
    return joined(
        joined(
            [
                element("h3", text(capitalised(regime.name))),
                part(results, regime, f"regime-{i}"),
            ]
        )
        for i, regime in enumerate(results.regimes)
    )


def _rivals(results: StudyResults, regime: RegimeResults, identifier: str) -> Markup:
    says = paragraph(f"{capitalised(regime.says).rstrip('.')}.", "says")
    shown = forest(results, regime, identifier) if regime.compared else NOT_OPENED
    return joined([says, shown, _controls(regime)])


def _controls(regime: RegimeResults) -> Markup:
    controls = {
        "Negative control: the loss with the circuit's outputs shuffled among tokens, minus the "
        "loss without an arm": regime.control,
        "Positive control: the loss with no map at all, minus the loss with the circuits that have "
        "written the text": regime.positive,
    }
    return joined(
        paragraph(
            f"{says}: {numbers.signed(found.difference)} nats per token "
            f"({numbers.interval(found.low, found.high)}).",
            "caption",
        )
        for says, found in controls.items()
        if found is not None
    )


def _losses(results: StudyResults, regime: RegimeResults, identifier: str) -> Markup:
    return losses(results, regime) if regime.losses else NOT_OPENED


def _curves(results: StudyResults, regime: RegimeResults, identifier: str) -> Markup:
    return learning_curves(results, regime, f"{identifier}-curves")


def _plan(results: StudyResults) -> Markup:
    tuned = [protocol.tuning(regime) for regime in results.regimes if regime.tuned]
    tuned += [
        paragraph(f"Nothing is tuned in the regime {regime.name}.")
        for regime in results.regimes
        if not regime.is_tuned
    ]
    heading = element("h3", text("Tuning"))
    return joined(
        [
            protocol.plan_and_deviations(results),
            heading,
            *(tuned or [paragraph("No arm is tuned yet.")]),
        ]
    )


def _variances(results: StudyResults) -> Markup:
    found = [variances(regime) for regime in results.regimes if regime.compared]
    return joined([ABOUT_VARIANCES, *found]) if found else NOT_OPENED


def _opinions(results: StudyResults) -> Markup:
    found = [second_opinions(regime) for regime in results.regimes if regime.compared]
    return joined([ABOUT_OPINIONS, *found]) if found else NOT_OPENED


def _record(results: StudyResults) -> Markup:
    facts: Sequence[tuple[str, Markup]] = (
        ("Command", element("code", text(shlex.join(results.command), 2000))),
        ("Commit", _code(results.commit or "not known")),
        ("Hash of the plan", _code(results.plan_hash)),
        ("Started", text(results.started, 60)),
    )
    pairs = [
        element("div", element("dt", text(name)), element("dd", value)) for name, value in facts
    ]
    return joined(
        [
            element("dl", *pairs),
            _looks(results),
            protocol.named_values("Machine", results.machine),
            protocol.named_values("Versions", results.versions),
        ]
    )


def _looks(results: StudyResults) -> Markup:
    if not results.looks:
        return paragraph("The held-out texts have not been evaluated.")
    n = len(results.looks)
    rows = [
        [
            text(look.time, 60),
            element("code", text(look.study, 200)),
            _code(look.plan[:16]),
            text(numbers.count(look.n_units)),
        ]
        for look in results.looks[:MOST_LOOKS]
    ]
    left_out = f"; the first {MOST_LOOKS} are shown" if n > MOST_LOOKS else ""
    caption = f"Evaluations of these held-out texts: {n}{left_out}"
    return table(caption, ["time", "study", "hash of its plan", "texts"], rows)


def _code(value: str) -> Markup:
    return element("code", text(value, 80))


NOT_OPENED = paragraph("Not yet: the held-out set is opened once, after the last planned fit.")
