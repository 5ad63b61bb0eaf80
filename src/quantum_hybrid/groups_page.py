"""The HTML view of scored groups, Atropos's own, made safe for text that a model wrote.

Atropos renders messages as Markdown, in which a model could put scripts, links and images. Here
every character that Markdown or HTML could act on is written as its numeric entity first, so a
reader sees the text as it is.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from atroposlib.frontend.jsonl2html import generate_html

from quantum_hybrid.errors import QuantumHybridError


def write_groups_page(groups_path: Path) -> Path:
    """Write the page beside the groups and return its path."""
    page = groups_path.with_suffix(".html")
    rows = groups_path.read_text(encoding="utf-8").splitlines()
    output = StringIO()
    with tempfile.TemporaryDirectory() as folder:
        inert = Path(folder) / "groups.jsonl"
        inert.write_text("".join(json.dumps(_inert(json.loads(row))) + "\n" for row in rows))
        try:
            with redirect_stdout(output), redirect_stderr(output):
                generate_html(str(inert), str(page))
        except SystemExit as error:
            reason = " ".join(output.getvalue().split())
            raise QuantumHybridError(f"{page} could not be written: {reason}") from error
    return page


def _inert(group: dict[str, Any]) -> dict[str, Any]:
    messages = [
        [message | {"content": inert_text(message["content"])} for message in conversation]
        for conversation in group["messages"]
    ]
    return {"messages": messages, "scores": group["scores"]}


def inert_text(text: str) -> str:
    """The text with everything but letters, digits, spaces and newlines as numeric entities."""
    return "".join(c if c.isalnum() or c in " \n" else f"&#{ord(c)};" for c in text)
