"""Untrusted text is cleaned before it reaches a terminal or a log."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misbehaving_server import ACTING
from quantum_hybrid.shown import LONGEST, LONGEST_ROW, shown, shown_row, shown_text

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


@given(text=texts | st.text(max_size=400))
def test_nothing_in_a_shown_text_acts_but_tabs_and_ends_of_lines(text) -> None:
    kept = shown_text(text).translate({ord("\t"): None, ord("\n"): None})
    assert not {unicodedata.category(c) for c in kept} & {"Cc", "Zl", "Zp"}
    explicit = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(c) for c in kept} & explicit


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x07", "[U+001B][31mred[U+0007]"),
        ("\x00\x0c\x7f\x85", "[U+0000][U+000C][U+007F][U+0085]"),
        ("abc\u202edef\u202c", "abc[U+202E]def[U+202C]"),
        ("\u2067\u2069\u200f\u061c", "[U+2067][U+2069][U+200F][U+061C]"),
        ("one\r\ntwo\rthree\n\tfour", "one\ntwo\nthree\n\tfour"),
    ],
)
def test_what_acts_in_a_text_is_named(text, seen) -> None:
    assert shown_text(text) == seen


@pytest.mark.parametrize(
    "text", ["שלום, מה שלומך?", "می\u200cخواهم", "👩\u200d👧 🏳️\u200d🌈", "a\u00a0b"]
)
def test_readable_text_is_shown_as_it_is(text) -> None:
    assert shown_text(text) == text
