"""HTML from Python, such that no text can become markup.

`Markup` comes from `element`, which escapes attributes, and from `text` and `passage`, which escape
and clean what they are given. A function that puts a plain string on the page does not type-check.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

from quantum_hybrid.shown import shown, shown_text

Markup = NewType("Markup", str)
"""A piece of HTML."""
EMPTY = Markup("")
LONGEST_LINE = 300
"""Characters of a line of text; what is longer ends with dots."""
_VOID = ("meta",)


def text(line: str, limit: int = LONGEST_LINE) -> Markup:
    """The text as one line of at most `limit` characters."""
    return Markup(html.escape(shown(_valid(line), limit)))


def passage(lines: str, limit: int) -> Markup:
    """The text with its lines, at most `limit` characters; says how many were cut."""
    kept = shown_text(_valid(lines[:limit]))
    cut = len(lines) - limit
    return Markup(html.escape(f"{kept} … [{cut} more characters]" if cut > 0 else kept))


def element(name: str, /, *content: Markup, **attributes: str | float | None) -> Markup:
    """An element. `class_` is the attribute class, `aria_label` aria-label; None is left out."""
    written = "".join(
        f' {_attribute(key)}="{html.escape(_valid(_value(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{''.join(content)}</{name}>")


def joined(parts: Iterable[Markup], separator: str = "\n") -> Markup:
    """The parts, one after the other; `separator` must be white space."""
    return Markup(separator.join(parts))


def paragraph(line: str, class_: str | None = None) -> Markup:
    """A paragraph of the page's own words."""
    return element("p", text(line, 4 * LONGEST_LINE), class_=class_)


def bullets(items: Iterable[Markup], class_: str | None = None) -> Markup:
    """A list."""
    return element("ul", *(element("li", item) for item in items), class_=class_)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Markup]], class_: str = ""
) -> Markup:
    """A table in a box of its own that scrolls sideways; the first cell of a row is its heading.

    The caption that is seen stands outside the box, where it neither scrolls nor gets narrow. With
    the class `cards`, each row becomes a card on a narrow screen.
    """
    head = element("tr", *(element("th", text(name), scope="col") for name in columns))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(
                element("td", cell, data_label=name)
                for name, cell in zip(columns[1:], row[1:], strict=True)
            ),
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", text(caption), class_="unseen"),
        element("thead", head),
        element("tbody", joined(body)),
        class_=class_ or None,
    )
    seen = element("p", text(caption), class_="caption", aria_hidden="true")
    name = shown(caption)
    return joined(
        [seen, element("div", whole, class_="wide", role="group", tabindex=0, aria_label=name)]
    )


def details(summary: str, *content: Markup) -> Markup:
    """A part that is closed until it is asked for, and open in print."""
    return element("details", element("summary", text(summary)), *content)


def svg(
    identifier: str, title: str, says: str, *content: Markup, height: float, class_: str | None
) -> Markup:
    """A figure as wide as its box, with an accessible name and description.

    It has no viewBox: lengths are in pixels of the page or in percent of its width, so that text
    keeps its size on a phone.
    """
    return element(
        "svg",
        element("title", text(title), id=f"{identifier}-title"),
        element("desc", text(says, 2 * LONGEST_LINE), id=f"{identifier}-says"),
        *content,
        role="img",
        aria_labelledby=f"{identifier}-title",
        aria_describedby=f"{identifier}-says",
        class_=class_,
        width="100%",
        height=height,
    )


def capitalised(words: str, limit: int = LONGEST_LINE) -> str:
    """The words as one line that begins with a capital letter."""
    line = shown(words, limit)
    return line[:1].upper() + line[1:]


def percent(share: float) -> str:
    """A share of the width or height, as SVG wants it."""
    return f"{100 * share:.2f}%"


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _valid(value: str) -> str:
    # A model's token can be part of a character, which is not valid UTF-8.
    return value.encode("utf-8", "replace").decode("utf-8")
