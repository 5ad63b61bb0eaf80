"""The page of a study: its structure, what stands on it, and that no text can act on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from example_study import ARMS, SCALING, compared, study, unfinished, with_diverged
from misbehaving_server import ACTING
from quantum_hybrid.report.study_page import study_page, verdict_sentence, write_study_page
from quantum_hybrid.report.study_page.sentence import regime_sentences
from quantum_hybrid.report.study_results import (
    ArmFacts,
    Look,
    Progress,
    Sample,
    StudyResults,
    TextFacts,
)

LIMIT = 400_000
HOSTILE = "</svg></style></title><script>alert(1)</script><img src=x onerror='alert(1)'>\"'&\ud83d"
VOID = {"meta"}


class Content(HTMLParser):
    """Elements, attributes and texts of a page; fails if tags are not balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.parents: list[tuple[str, ...]] = []
        self.texts: dict[int, str] = {}
        """Position of an element in `elements` -> the text directly and indirectly in it."""
        self._positions: list[int] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.parents.append(tuple(self.open))
        self.texts[len(self.elements) - 1] = ""
        if tag not in VOID:
            self.open.append(tag)
            self._positions.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._positions.pop()

    def handle_data(self, data: str) -> None:
        for position in self._positions:
            self.texts[position] += data

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and class_ in (None, a.get("class"))]

    def texts_of(self, tag: str, class_: str | None = None) -> list[str]:
        return [
            self.texts[i]
            for i, (name, attributes) in enumerate(self.elements)
            if name == tag and class_ in (None, attributes.get("class"))
        ]


def content_of(results: StudyResults) -> Content:
    return Content(study_page(results))


VARIANTS: dict[str, Callable[[], StudyResults]] = {
    "complete": study,
    "unfinished": unfinished,
    "diverged": with_diverged,
    "nothing yet": lambda: replace(unfinished(), regimes=(), text=None, seconds={}),
    "one rival": lambda: study(("weak",), 2, 1, ARMS[:2]),
    "quick": lambda: study(is_quick=True, looks=()),
}


@pytest.mark.parametrize("results", [make() for make in VARIANTS.values()], ids=[*VARIANTS])
def test_every_page_is_well_formed_and_accessible(results):
    content = content_of(results)
    tags = [tag for tag, _ in content.elements]
    assert content.all("html") == [{"lang": "en"}]
    assert tags.count("h1") == tags.count("main") == tags.count("title") - tags.count("desc") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
    identifiers = [a["id"] for _, a in content.elements if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    named = [a[key] for _, a in content.elements for key in a if key in REFERENCES]
    assert {name.removeprefix("#") for name in named} <= set(identifiers)
    captions = [text for text in content.texts_of("caption") if text]
    assert len(captions) == tags.count("table") == len(set(captions))
    assert all(a.get("scope") in ("row", "col") for a in content.all("th"))


REFERENCES = ("aria-labelledby", "aria-describedby", "href")


@pytest.mark.parametrize("results", [make() for make in VARIANTS.values()], ids=[*VARIANTS])
def test_every_figure_has_a_name_and_a_description(results):
    content = content_of(results)
    texts = {a["id"]: content.texts[i] for i, (_, a) in enumerate(content.elements) if "id" in a}
    for (tag, attributes), parents in zip(content.elements, content.parents, strict=True):
        if tag == "svg" and "svg" not in parents:
            assert attributes["role"] == "img"
            assert texts[attributes["aria-labelledby"]]
            assert texts[attributes["aria-describedby"]]


@pytest.mark.parametrize("results", [make() for make in VARIANTS.values()], ids=[*VARIANTS])
def test_nothing_is_fetched_and_nothing_runs(results):
    page = study_page(results)
    content = Content(page)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in content.all("meta")
    assert {tag for tag, _ in content.elements}.isdisjoint({"script", "img", "link", "iframe"})
    for _, attributes in content.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", page)


def test_the_sections_come_in_the_order_of_a_reader():
    assert content_of(study()).texts_of("h2") == [
        "The verdict",
        "Against each rival",
        "Held-out losses",
        "Learning curves",
        "What was planned and what was done",
        "Variance, and the seeds that would settle it",
        "Second opinions",
        "More qubits, more layers",
        "The instrument's own test",
        "The text",
        "Cost",
        "What a referee rejects",
        "What this study does not say",
        "Where this comes from",
    ]


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write_study_page(study(), tmp_path / f"{name}.html")
    first, second = (tmp_path / f"{name}.html" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_large_study_with_long_texts_makes_a_small_page():
    long_ones = tuple(Sample(HOSTILE * 1000, ACTING * 10_000) for _ in range(50))
    text = replace(study().text or TextFacts("", "", {}, {}, {}), samples=long_ones)
    arms = (*ARMS[:13], ArmFacts("shuffled " * 500, "says " * 5_000, 1, 1))
    large = study(
        ("alone", "beside", "weak"),
        20,
        500,
        arms,
        text=text,
        command=["--flag" * 10_000] * 20,
        notes=("a note " * 10_000,),
    )
    assert len(study_page(large).encode("utf-8")) <= LIMIT


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every string in it changed, names of fields and of the subject apart."""
    if isinstance(value, str):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        new = {f.name: changed(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **new)
    if isinstance(value, dict):
        return {key if key in KEPT else changed(key, change): changed(item, change)
                for key, item in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return type(value)(changed(item, change) for item in value)
    return value


KEPT = {"rows", "arm", "n_qubits", "n_layers", "loss", "standard_error", "multiply_adds", "planted",
        "n_studies", "told_apart", "equivalent", "covered", "mean_difference", "command", "commit",
        "n_seeds", "n_prompts", "margin"}  # fmt: skip


def test_hostile_text_anywhere_in_the_results_becomes_no_markup():
    whole = study(looks=(Look("", "", "", 1),) * 2, notes=("note",))
    hostile = study_page(changed(whole, lambda text: f"{HOSTILE}{text}"))
    expected, found = content_of(whole), Content(hostile)
    assert {tag for tag, _ in found.elements} == {tag for tag, _ in expected.elements}
    names = [{name for _, attributes in page.elements for name in attributes}
             for page in (expected, found)]  # fmt: skip
    assert names[1] <= names[0]
    assert found.texts_of("bdi")[0].startswith("</svg></style></title><script>")
    # Nothing but the page's own colours stands in the style, where escapes do not work.
    (sheet,) = found.texts_of("style")
    assert "alert" not in sheet


def test_text_of_a_model_is_cut_at_a_stated_length_and_has_a_direction_of_its_own():
    text = TextFacts("s", "prompt", {}, {}, {}, (Sample("a" * 100_000, "\u202egnp.exe\nline"),))
    content = content_of(study(text=text))
    assert content.texts_of("div", "text prompt") == [f"{'a' * 700} … [99300 more characters]"]
    assert content.texts_of("div", "text answer") == ["[U+202E]gnp.exe\nline"]
    assert content.all("div", "text prompt")[0]["dir"] == "auto"
    assert "1 of 1 samples, each cut at 700 characters" in content.texts_of("summary")


def test_while_unfinished_the_page_reloads_itself_and_says_what_is_missing():
    page = study_page(unfinished(), refresh_seconds=7)
    content = Content(page)
    assert {"http-equiv": "refresh", "content": "7"} in content.all("meta")
    assert content.texts_of("h2")[0] == "The study is not finished"
    (progress,) = content.texts_of("p", "progress")
    assert "fitting alone, seed 3" in progress
    assert "42 of 280 fits are done" in progress
    assert "Missing: 238 fits; the held-out losses." in progress
    assert "238 fits" in content.texts_of("li")
    assert not [a for a in content_of(study()).all("meta") if a.get("http-equiv") == "refresh"]


def test_what_weakens_the_verdict_stands_before_it():
    page = study_page(
        study(is_quick=True, looks=(Look("t", "s", "p", 1),) * 3, notes=("Arm x fell.",))
    )
    (warnings,) = Content(page).texts_of("div", "warnings")
    assert "proves nothing" in warnings
    assert "have been evaluated 3 times" in warnings
    assert "Arm x fell." in warnings
    assert page.index('class="warnings"') < page.index('id="verdict"')
    assert Content(study_page(study())).texts_of("div", "warnings") == []


def test_a_rival_that_is_far_away_is_off_the_axis_with_its_number():
    content = content_of(study(("alone",)))
    assert content.texts_of("text", "off") == ["+1.0200", "+1.0300"]
    near = replace(compared("identity", 0.01, 0.001), high=0.02)
    alone = replace(study(("alone",)).regimes[0], compared=[near])
    assert content_of(replace(study(), regimes=[alone])).texts_of("text", "off") == []


def test_a_diverged_rival_gets_no_dot_and_no_mean():
    content = content_of(with_diverged())
    says = [text for text in content.texts_of("desc") if text.startswith(("mlp", "identity"))]
    assert says == ["identity: diverged, no verdict.", "mlp: diverged, no verdict."]
    assert "9 of 10" in content.texts_of("td")
    assert "10 of 10" in content.texts_of("td")
    assert "Without a finite loss: mlp." in content.texts_of("figcaption")[0]


def test_parameters_and_compute_stand_beside_each_rival():
    small = content_of(study(("alone",))).texts_of("small")
    assert "52,488 parameters, 59,049 multiply\u2011adds" in small


def test_a_study_says_which_objections_it_does_not_meet():
    results = study(("beside",), arms=ARMS[:2], looks=(), instrument=None)
    content = content_of(results)
    assert content.texts_of("span", "status not-met") == ["not met"] * 3
    assert content.texts_of("span", "status open") == ["open"]
    # A study needs a regime that is a positive control, in which the circuit is found.
    assert content_of(study()).texts_of("span", "status not-met") == ["not met"]
    for verdict, n in (("better", 0), ("equivalent", 1)):
        against = replace(compared("identity", 0.02, 0.001), verdict=verdict)
        planted = replace(study().regimes[1], name="planted", is_control=True, positive=against)
        content = content_of(replace(study(), regimes=[*study().regimes, planted]))
        assert content.texts_of("span", "status not-met") == ["not met"] * n


def test_a_second_look_is_an_objection_that_is_not_met():
    content = content_of(study(looks=(Look("t", "s", "p", 1),) * 2))
    assert content.texts_of("span", "status not-met") == ["not met"] * 2
    assert "The held-out set has been evaluated 2 times." in content.texts_of("td")


def test_verdicts_before_the_end_of_the_plan_are_an_objection_that_is_not_met():
    early = content_of(study(progress=Progress("fitting weak", 280, 420, ("weak",))))
    assert "Verdicts are shown although a part of the plan is missing." in early.texts_of("td")
    assert content_of(unfinished()).texts_of("span", "status not-met") == ["not met"]


def test_curves_leave_out_what_is_far_and_say_so():
    content = content_of(study(("alone",)))
    (curves, scaling) = content.texts_of("figcaption")
    assert re.search(r"Off the axis: nothing at 7\.3\d+, shuffled at 7\.3\d+\.$", curves)
    assert "Off the axis" not in scaling
    labels = [text for text in content.texts_of("text") if text in BY_NAME]
    assert sorted(labels) == sorted(
        [*(BY_NAME - {"nothing", "shuffled"}), "ring", "identity", "affine"]
    )


BY_NAME = {arm.name for arm in ARMS}


def test_scaling_has_a_dot_and_an_error_bar_for_each_size_with_a_finite_loss():
    rows = [*SCALING["rows"]]
    rows[0] = {**rows[0], "loss": float("nan")}
    page = study_page(study(("alone",), scaling={"rows": rows}))
    _, _, figure = page.partition('<title id="scaling-qubits-title">')
    figure, _, _ = figure.partition("</figure>")
    assert figure.count("<circle") == 11
    assert len(re.findall(r"<line x1=\"\d+\" x2=\"\d+\" y1=", figure)) == 11
    nothing = {"rows": [rows[0]]}
    assert "No finite loss yet." in content_of(study(scaling=nothing)).texts_of("p")


SENTENCES = {
    "better": (
        (0.0412, 0.002),
        "was better than no map at all by 0.0412 nats per token (95 % interval 0.0373 to 0.0451)",
    ),
    "worse": (
        (-0.121, 0.004),
        "was worse than no map at all by 0.1210 nats per token (95 % interval 0.1132 to 0.1288)",
    ),
    "equivalent": (
        (-0.0004, 0.0005),
        "was equivalent to no map at all (difference −0.0004 nats per token, 95 % interval "
        "−0.0014 to +0.0006, within the margin of 0.005)",
    ),
    "inconclusive": (
        (0.004, 0.003),
        "was neither told apart from no map at all nor shown to be equivalent to it (difference "
        "+0.0040 nats per token, 95 % interval −0.0019 to +0.0099)",
    ),
}


@pytest.mark.parametrize("verdict", SENTENCES)
def test_the_sentence_says_the_verdict_against_no_map_and_counts_the_others(verdict):
    (difference, error), words = SENTENCES[verdict]
    rivals = [compared("identity", difference, error), compared("affine", -0.1, 0.001)]
    assert rivals[0].verdict == verdict
    alone = replace(study(("alone",)).regimes[0], compared=rivals)
    (sentence,) = regime_sentences(replace(study(), regimes=[alone]))
    counts = {
        "better": "better than 1, worse than 1",
        "worse": "worse than 2",
        "equivalent": "worse than 1, equivalent to 1",
        "inconclusive": "worse than 1, inconclusive against 1",
    }[verdict]
    assert sentence == f"Alone, the ring circuit {words}; of 2 rivals, it was {counts}."


@pytest.mark.parametrize(
    ("regime", "words"),
    [("alone", "the frequencies of words"), ("weak", "the classical pathway by itself")],
)
def test_the_sentence_says_what_the_circuit_adds_to_nothing(regime, words):
    """Better than no map at all may be no better than no arm at all."""
    rivals = [compared("nothing", 0.0412, 0.002), compared("identity", 0.0412, 0.002)]
    found = replace(study((regime,)).regimes[0], compared=rivals)
    (sentence,) = regime_sentences(replace(study(), regimes=[found]))
    assert "was better than no map at all by 0.0412 nats per token" in sentence
    assert f" and was better than {words} by 0.0412 nats per token" in sentence


def test_one_sentence_says_the_verdicts_of_all_regimes_against_no_map():
    alone, beside = study().regimes
    found = [
        replace(alone, compared=[compared("identity", 0.0412, 0.002), compared("affine", 0, 0.1)]),
        replace(beside, compared=[compared("identity", 0.001, 0.001)]),
    ]
    sentence = verdict_sentence(replace(study(), regimes=found))
    assert sentence == (
        "Alone, the ring circuit was better than no map at all; beside the healed backbone, it was "
        "equivalent to no map at all."
    )
    same = [replace(one, compared=found[0].compared) for one in found]
    assert verdict_sentence(replace(study(), regimes=same)).startswith(
        "Alone and beside the healed backbone, the ring circuit was better than no map at all"
    )
    without = [replace(alone, compared=[compared("affine", 0.0412, 0.002)])]
    assert verdict_sentence(replace(study(), regimes=without)) == (
        "No regime compares the ring circuit with no map at all."
    )


@pytest.mark.parametrize(("verdict", "words"), [("better", "found"), ("worse", "did not find")])
def test_the_sentence_says_whether_the_control_was_found_and_judges_no_text_by_it(verdict, words):
    alone, planted = study().regimes
    rivals = [compared("identity", 0.0412, 0.002)]
    positive = replace(rivals[0], verdict=verdict)
    control = replace(planted, name="planted", is_control=True, compared=rivals, positive=positive)
    equal = replace(alone, compared=[compared("identity", 0.001, 0.001)])
    assert verdict_sentence(replace(study(), regimes=[equal, control])) == (
        "Alone, the ring circuit was equivalent to no map at all; on a text that a "
        f"ring circuit had written, the study {words} that circuit to be better than no map."
    )


def test_the_sentence_claims_nothing_without_a_comparison():
    assert verdict_sentence(unfinished()).startswith("No verdict yet: 42 of 280 fits are done")
    assert regime_sentences(unfinished()) == []
    assert "was not compared with no map at all" in verdict_sentence(with_diverged())
