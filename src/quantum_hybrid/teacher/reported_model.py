"""Whether the model that a reply names is the requested one.

Servers report names in their own spelling: `gpt-4o` as `gpt-4o-2024-08-06`, a path as its last
part, an alias as the name behind it. Therefore the first reported name is accepted as the requested
model, unless the server's list of models has that name for another one. A later reply with a
different name counts as another model's.
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
        """Whether to accept a reply with this model name; `offered` is the server's list."""
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
    # Accept a date or a version, as in gpt-4o-2024-08-06, but not gpt-4o-mini or llama-3-70b.
    return ending != short_reported and re.fullmatch(r"[-@:]v?\d[\d.-]*", ending) is not None
