"""Text from outside, made fit for a person's terminal and log: the one place where that is done.

    shown(text)        what somebody else wrote, on one line and bounded: to be put into a message
    shown_row(text)    a whole row of ours, laid out as it is: the last check before it is printed

A server chooses what its model is called and what its errors say; a file, what its entries are
called. Control characters and a terminal's own sequences (ECMA-48) would act on the terminal, and
marks that turn the direction of writing round would make a line read as another one. None is left.
"""

from __future__ import annotations

import re

LONGEST = 300
LONGEST_ROW = 2000
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # colours, where the cursor goes
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]{0,256}(?:\x07|\x1b\\|\x9c)"  # the window's title, links
)


def shown(text: str, limit: int = LONGEST, *, secret: str | None = None) -> str:
    """The text on one line, single spaces between its words; of the secret nothing stays."""
    line = " ".join(_inert(text).split())
    if secret:
        line = line.replace(secret, "[API key]")
    return _bounded(line, limit)


def shown_row(text: str) -> str:
    """The row with a space in the place of whatever is more than a character to look at."""
    return _bounded(_inert(text), LONGEST_ROW)


def _inert(text: str) -> str:
    visible = _SEQUENCES.sub("", text)
    return "".join(c if c.isprintable() else " " for c in visible)


def _bounded(line: str, limit: int) -> str:
    return line if len(line) <= limit else line[:limit] + "..."
