"""Clean untrusted text before it is printed, logged or put on a page.

    shown(text)        text from a server or file, as one line of limited length, for a message
    shown_row(text)    a complete row of output with its layout, checked before it is printed
    shown_text(text)   a model's text with its lines, for a page

Servers choose their model names and error messages, and files their entries' names. Control
characters and escape sequences (ECMA-48) would act on the terminal, and bidirectional marks would
make a line read as another one. `shown` and `shown_row` remove them; `shown_text`, for a reader of
what the model wrote, names each by its code point.
"""

from __future__ import annotations

import re

LONGEST = 300
LONGEST_ROW = 2000
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]{0,256}(?:\x07|\x1b\\|\x9c)"  # OSC: window title, links
)
_ENDS_OF_LINES = re.compile(r"\r\n?")
_ACTING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # category Cc without tab and line feed
    r"\u2028\u2029"  # line and paragraph separator
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # Bidi_Control of UAX #9
)


def shown(text: str, limit: int = LONGEST, *, secret: str | None = None) -> str:
    """The text as one line with single spaces, at most `limit` characters, without `secret`."""
    line = " ".join(_inert(text).split())
    if secret:
        line = line.replace(secret, "[API key]")
    return _bounded(line, limit)


def shown_row(text: str) -> str:
    """The row with a space in place of every character that is not printable."""
    return _bounded(_inert(text), LONGEST_ROW)


def shown_text(text: str) -> str:
    """The text with `[U+202E]`, for example, in place of each character that acts unseen.

    Those are control characters, line separators and explicit bidirectional formatting. Tabs and
    ends of lines stay, as do joiners, which emoji and Persian need.
    """
    lines = _ENDS_OF_LINES.sub("\n", text)
    return _ACTING.sub(lambda found: f"[U+{ord(found[0]):04X}]", lines)


def _inert(text: str) -> str:
    visible = _SEQUENCES.sub("", text)
    return "".join(c if c.isprintable() else " " for c in visible)


def _bounded(line: str, limit: int) -> str:
    return line if len(line) <= limit else line[:limit] + "..."
