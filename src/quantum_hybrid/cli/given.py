"""The values that the user set, by flag or in the `--config` file; flags win. No defaults."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from quantum_hybrid.cli.atropos_flags import ATROPOS
from quantum_hybrid.cli.config_file import read_config_file
from quantum_hybrid.cli.flags import OURS, section_and_name
from quantum_hybrid.errors import UsageError

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Given:
    """Values by section and name."""

    ours: Sections
    """`env` and `openai`, for `RunConfig` and `ServerConfig`."""
    atropos: Sections
    """Atropos's own settings: the same sections, and "" for flags without a section."""
    file: str | None
    from_file: frozenset[str]
    """Names whose value comes from the file."""

    @classmethod
    def of(cls, namespace: argparse.Namespace, *, with_atropos: bool = False) -> Given:
        """Merge parsed flags with the file that `--config` names. Raises `UsageError`."""
        values = vars(namespace)
        known = [*OURS, *ATROPOS] if with_atropos else OURS
        flags = {f"--{name}": value for name, value in values.items() if f"--{name}" in known}
        file = values.get("config")
        below = {} if file is None else read_config_file(file, known)
        merged = below | flags
        return cls(
            _by_section({flag: value for flag, value in merged.items() if flag in OURS}),
            _by_section({flag: value for flag, value in merged.items() if flag not in OURS}),
            file,
            frozenset(section_and_name(flag)[1] for flag in below if flag not in flags),
        )

    @contextmanager
    def naming_the_file(self) -> Iterator[None]:
        """Prefix the file's name to a `UsageError` about a value that comes from the file."""
        try:
            yield
        except UsageError as error:
            named = re.match(r"`(\w+)`", str(error))
            if named is None or named[1] not in self.from_file:
                raise
            raise UsageError(f"--config {self.file}: {error}") from error


def _by_section(values: dict[str, Any]) -> Sections:
    sections: Sections = {"env": {}, "openai": {}, "": {}}
    for flag, value in values.items():
        section, name = section_and_name(flag)
        sections[section][name] = value
    return sections
