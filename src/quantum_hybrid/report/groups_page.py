"""Scored groups as one HTML page: prompts, answers and scores.

Model text cannot act on the page: HTML's special characters are escaped, control and bidirectional
characters are shown by their code points, each text has a direction of its own, the page has no
script, and its Content-Security-Policy forbids loading anything.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.shown import shown_text

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scored groups</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
summary { cursor: pointer; padding: .3rem 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0 1rem; }
.answer { border-left: 3px solid; padding-left: .8rem; }
.score { font-variant-numeric: tabular-nums; font-weight: 600; }
</style></head>
<body><h1>Scored groups</h1>
"""


def groups_page_path(groups_path: Path) -> Path:
    """Path of the page: beside the groups file, and never the same file."""
    page = groups_path.with_suffix(".html")
    return page if page != groups_path else groups_path.with_name(f"{groups_path.name}.html")


def write_groups_page(groups_path: Path) -> Path:
    """Write the page beside the groups and return its path."""
    rows = groups_path.read_text(encoding="utf-8").splitlines()
    parts = [_group(number, json.loads(row)) for number, row in enumerate(rows, start=1)]
    page = groups_page_path(groups_path)
    write_bytes(page, "".join([_HEAD, *parts, "</body></html>\n"]).encode("utf-8"))
    return page


def _group(number: int, group: dict[str, Any]) -> str:
    prompt = group["messages"][0][0]["content"]
    answers = zip(group["messages"], group["scores"], strict=True)
    shown = "".join(_answer(messages[-1]["content"], score) for messages, score in answers)
    mean = sum(group["scores"]) / len(group["scores"])
    return (
        f"<details><summary>Group {number}, mean score "
        f'<span class="score">{mean:.3f}</span>: '
        f"<bdi>{_escaped(_shortened(prompt))}</bdi></summary>\n"
        f'<div class="text prompt" dir="auto">{_escaped(prompt)}</div>\n{shown}</details>\n'
    )


def _answer(text: str, score: float) -> str:
    return (
        f'<div class="answer">score <span class="score">{score:.3f}</span>\n'
        f'<div class="text" dir="auto">{_escaped(text)}</div></div>\n'
    )


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else f"{words[:79]}…"


def _escaped(text: str) -> str:
    # A model's token can be part of a character, which is not valid UTF-8.
    return html.escape(shown_text(text.encode("utf-8", "replace").decode("utf-8")))
