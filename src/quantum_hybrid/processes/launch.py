"""The environment variables that a launcher such as `torchrun` sets for each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantum_hybrid.errors import UsageError

_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_MOST = 1024
"""Maximum number of processes of one run."""


@dataclass(frozen=True)
class Launch:
    """A process's rank among the processes that were launched together."""

    rank: int = 0
    """Rank from 0 to size - 1; 0 is the first process."""
    size: int = 1
    """Number of processes."""
    n_local: int = 1
    """Number of processes on this machine."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Launch:
        """Read the variables that `torchrun` sets; without them, a single process.

        Raises `UsageError` for values out of range.
        """
        if not all(name in environment for name in _NAMES):
            return cls()
        size = _number(environment, "WORLD_SIZE", 1, _MOST)
        rank = _number(environment, "RANK", 0, size - 1)
        n_local = 1
        if "LOCAL_WORLD_SIZE" in environment:
            n_local = _number(environment, "LOCAL_WORLD_SIZE", 1, size)
        return cls(rank, size, n_local)


def _number(environment: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = environment[name]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(
            f"{name}={text} in the environment: must be from {low} to {high}; start the processes "
            "with torchrun, or unset it"
        )
    return int(text)
