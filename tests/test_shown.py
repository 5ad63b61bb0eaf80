"""Untrusted text is cleaned before it reaches a terminal or a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misbehaving_server import ACTING
from quantum_hybrid.shown import LONGEST, LONGEST_ROW, shown, shown_row

texts = st.text(st.sampled_from([*ACTING, *"ab ;[]m0\n\\é🙂"]), max_size=60)


@given(text=texts | st.text(max_size=400))
def test_what_is_shown_is_one_printable_line_of_bounded_length(text) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= LONGEST + len("...")
    assert line == " ".join(line.split()) or line == line[:LONGEST] + "..."
    row = shown_row(text)
    assert row.isprintable()
    assert len(row) <= LONGEST_ROW + len("...")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a \x1b[1;31mred\x1b[0m word", "a red word"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends", "]0;never ends"),
        ("two\r\nlines\tand a tab", "two lines and a tab"),
        ("abc\u202edef", "abc def"),
        ("schön 北京 🙂", "schön 北京 🙂"),
        (f"key {'k' * 20}.", "key [API key]."),
        (f"k\x1b[0m{'k' * 19}", "[API key]"),
        ("x" * 301, "x" * 300 + "..."),
    ],
)
def test_what_is_left_of_a_text(text, line) -> None:
    assert shown(text, secret="k" * 20) == line


def test_a_row_keeps_its_columns() -> None:
    assert shown_row("a    b  \tc\n") == "a    b   c "
