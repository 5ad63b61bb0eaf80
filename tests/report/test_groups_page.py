"""The page of scored groups: model text cannot become markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from misbehaving_server import ACTING
from quantum_hybrid.report.groups_page import groups_page_path, write_groups_page

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1))",
    "![pixel](http://example.invalid/p.png)",
    "```html\n<script>alert(1)</script>\n```",
    "<http://example.invalid>",
    "&lt;script&gt; & **bold** _under_ `code`",
    "# heading\n- item\n> quote\n| a | b |\n|---|---|",
    "</div></details></body>",
    "    def f(x):\n        return f(x)",
    "half a character: \ud83d",
]


class Content(HTMLParser):
    """The page's elements, and the texts of prompts and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.texts: list[str] = []
        self.directions: list[str | None] = []
        self._in_text = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        found = dict(attrs)
        if (found.get("class") or "").startswith("text"):
            self._in_text = True
            self.texts.append("")
            self.directions.append(found.get("dir"))

    def handle_endtag(self, tag: str) -> None:
        self._in_text &= tag != "div"

    def handle_data(self, data: str) -> None:
        if self._in_text:
            self.texts[-1] += data


def page_of(tmp_path: Path, prompt: str, answer: str) -> Content:
    messages = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]]
    groups = tmp_path / "groups.jsonl"
    groups.write_text(json.dumps({"messages": messages, "scores": [0.25]}) + "\n", encoding="utf-8")
    content = Content()
    content.feed(write_groups_page(groups).read_text(encoding="utf-8"))
    return content


@pytest.fixture
def harmless(tmp_path) -> set[str]:
    """The elements of a page without special characters."""
    return page_of(tmp_path, "Hello", "Good day").elements


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_wrote_is_shown_as_it_is_and_is_no_element(text, harmless, tmp_path) -> None:
    content = page_of(tmp_path, text, text)
    assert content.elements == harmless
    assert "script" not in harmless
    assert content.texts == [text.encode("utf-8", "replace").decode()] * 2


def test_no_character_acts_unseen(tmp_path) -> None:
    """Not in the page's source either: `cat` shows it to a terminal."""
    content = page_of(tmp_path, ACTING, f"{ACTING}\n\tשלום 👩\u200d👧")
    prompt, answer = content.texts
    assert "[U+001B][31m" in prompt
    assert "[U+202E][U+2066][U+200F]" in prompt
    assert answer == f"{prompt}\n\tשלום 👩\u200d👧"
    source = (tmp_path / "groups.html").read_bytes().decode("utf-8")
    assert {c for c in ACTING if not c.isprintable()}.isdisjoint(source)


def test_the_direction_of_a_text_is_its_own(tmp_path) -> None:
    content = page_of(tmp_path, "שלום", "abc")
    assert content.directions == ["auto", "auto"]
    assert ": <bdi>שלום</bdi></summary>" in (tmp_path / "groups.html").read_text(encoding="utf-8")


def test_the_groups_themselves_are_not_changed(tmp_path) -> None:
    page_of(tmp_path, "Hi", HOSTILE[0])
    group = json.loads((tmp_path / "groups.jsonl").read_text(encoding="utf-8"))
    assert group["messages"][0][1]["content"] == HOSTILE[0]


@pytest.mark.parametrize(
    ("groups", "page"),
    [("groups.jsonl", "groups.html"), ("x.html", "x.html.html"), ("x", "x.html")],
)
def test_the_page_never_takes_the_place_of_the_groups(groups, page, tmp_path) -> None:
    assert groups_page_path(tmp_path / groups) == tmp_path / page
