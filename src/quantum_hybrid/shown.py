"""Clean untrusted text before it is printed or logged.

    shown(text)        text from a server or file, as one line of limited length, for a message
    shown_row(text)    a complete row of output with its layout, checked before it is printed

Servers choose their model names and error messages, and files their entries' names. Control
characters and escape sequences (ECMA-48) would act on the terminal, and bidirectional marks would
make a line read as another one. All of them are removed.
"""

from __future__ import annotations

import re

LONGEST = 300
LONGEST_ROW = 2000
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]{0,256}(?:\x07|\x1b\\|\x9c)"  # OSC: window title, links
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


def _inert(text: str) -> str:
    visible = _SEQUENCES.sub("", text)
    return "".join(c if c.isprintable() else " " for c in visible)


def _bounded(line: str, limit: int) -> str:
    return line if len(line) <= limit else line[:limit] + "..."
