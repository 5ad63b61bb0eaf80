"""The documentation pages and their code blocks; a helper, not a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("python", "bash", "yaml", "text")
"""Of a fenced block; only `text` is not run."""
FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.M)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its first line of code, counted from 1."""
    language: str
    file: str | None
    """What a reader calls the file that the block is the content of."""
    text: str


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, all or of one language."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        named = re.fullmatch(r'(\w*)(?: title="([^"]+)")?', match["info"].strip())
        assert named is not None, f"{name_of(page)}: ```{match['info']}"
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(page, line, named[1], named[2], match["text"]))
    return [block for block in found if language in (None, block.language)]


@dataclass(frozen=True)
class ShellLine:
    """A line of a bash block, without its comment."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def shell_lines(page: Path) -> Iterator[ShellLine]:
    """The commands of a page, in order."""
    for block in blocks(page, "bash"):
        for offset, line in enumerate(block.text.splitlines()):
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield ShellLine(page, block.line + offset, command)
