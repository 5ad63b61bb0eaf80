"""The page of scored groups: whatever a model wrote is text on it, and nothing else."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quantum_hybrid.groups_page import write_groups_page

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1))",
    "![pixel](http://example.invalid/p.png)",
    "```html\n<script>alert(1)</script>\n```",
    "<http://example.invalid>",
    "&lt;script&gt; & **bold** _under_ `code`",
    "# heading\n- item\n> quote\n| a | b |\n|---|---|",
    "</div></div></body>",
]


class Content(HTMLParser):
    """Elements and text within the content blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.elements: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.depth:
            self.elements.add(tag)
            self.depth += tag == "div"
        elif ("class", "content-block") in attrs:
            self.depth = 1

    def handle_endtag(self, tag: str) -> None:
        if self.depth:
            self.depth -= tag == "div"

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.text += data


def page_of(tmp_path: Path, answer: str) -> Content:
    messages = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]]
    groups = tmp_path / "groups.jsonl"
    groups.write_text(json.dumps({"messages": messages, "scores": [0.25]}) + "\n")
    content = Content()
    content.feed(write_groups_page(groups).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("answer", HOSTILE)
def test_nothing_a_model_wrote_becomes_an_element(answer, tmp_path) -> None:
    content = page_of(tmp_path, answer)
    assert content.elements <= {"p", "strong", "br"}
    assert " ".join(answer.split()) in " ".join(content.text.split())


def test_the_groups_themselves_are_not_changed(tmp_path) -> None:
    page_of(tmp_path, HOSTILE[0])
    group = json.loads((tmp_path / "groups.jsonl").read_text())
    assert group["messages"][0][1]["content"] == HOSTILE[0]
