"""A text file that the user named."""

from __future__ import annotations

from typing import NamedTuple

from quantum_hybrid.errors import UsageError
from quantum_hybrid.paths import user_path


class Utf8File(NamedTuple):
    """What was read."""

    content: bytes
    text: str


def read_utf8(named: str, where: str, most_bytes: int) -> Utf8File:
    """The file's content. Raises `UsageError`, which begins with `where` and names the line."""
    try:
        with user_path(named, where).open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise UsageError(f"{where}: is larger than {most_bytes >> 20} MiB")
    try:
        return Utf8File(content, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where}, line {line}: is not UTF-8") from None
