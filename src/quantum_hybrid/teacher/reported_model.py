"""Whether the model that a reply names is the one that was asked.

Servers spell a model's name in their own way: `gpt-4o` answers as `gpt-4o-2024-08-06`, a path as
its last part, an alias as what it stands for. So the name that a server gives from the start is
taken for the model asked, unless it is the name of another one on the server's own list. A name
that differs from there on is another model's.
"""

from __future__ import annotations

import re
from collections.abc import Collection


class ReportedModel:
    """The names under which one server has answered for one model."""

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._alias: str | None = None

    def takes(self, reported: str, offered: Collection[str]) -> bool:
        """Whether a reply of this model's name is taken; `offered` is the server's own list."""
        if _is_same(self._asked, reported):
            self._alias = self._asked
            return True
        if reported in offered:
            return False
        if self._alias is None:
            self._alias = reported
        return reported == self._alias


def _is_same(asked: str, reported: str) -> bool:
    short_asked, short_reported = (
        name.casefold().replace("\\", "/").rstrip("/").rpartition("/")[2]
        for name in (asked, reported)
    )
    if short_asked == short_reported:
        return True
    ending = short_reported.removeprefix(short_asked)
    # A date or a version: gpt-4o-2024-08-06, and neither gpt-4o-mini nor llama-3-70b.
    return ending != short_reported and re.fullmatch(r"[-@:]v?\d[\d.-]*", ending) is not None
