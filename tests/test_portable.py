"""The code does not depend on defaults of the machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def unnamed_encodings(source: bytes) -> Iterator[int]:
    """Lines that read or write a text file in the machine's default encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or {k.arg for k in node.keywords} & {"encoding", None}:
            continue
        # The first argument of the function is a file's name, of a path's method it is the mode.
        modes = node.args[1:2] if isinstance(node.func, ast.Name) else node.args
        strings = [
            a.value for a in modes if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        match node.func:
            case ast.Attribute(attr="read_text") if not node.args:
                yield node.lineno
            case ast.Attribute(attr="write_text"):
                yield node.lineno
            case ast.Attribute(attr="open") if len(strings) == len(node.args) <= 1:
                if not any("b" in mode for mode in strings):
                    yield node.lineno
            case ast.Name(id="open") if not any("b" in mode for mode in strings):
                yield node.lineno


def test_a_text_files_encoding_is_seen_where_it_is_missing() -> None:
    missing = b"p.read_text()\np.write_text('x')\np.open()\np.open('w')\nopen('b')\nopen(p, 'a')"
    assert [*unnamed_encodings(missing)] == [1, 2, 3, 4, 5, 6]
    named = (
        b"p.read_text('ascii')\np.open('rb')\nopen(p, 'wb')\nRun.open(plan)\nopen(p, encoding=e)"
    )
    assert [*unnamed_encodings(named)] == []


def test_text_files_are_utf_8_in_every_locale() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in ("src", "tests", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        for line in unnamed_encodings(path.read_bytes())
    ]
    assert lines == []
