"""What a launcher of several processes, such as `torchrun`, tells each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """A process's place among those that were started together."""

    rank: int = 0
    """Counted from 0, the first."""
    size: int = 1
    n_local: int = 1
    """How many of them share this machine."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Launch:
        """From the variables that `torchrun` sets; alone without them."""
        if not all(name in environment for name in _NAMES):
            return cls()
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return cls(rank, size, int(environment.get("LOCAL_WORLD_SIZE", 1)))
