"""What the project wants to reach, and whether this run reached it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.job import Size
from benchmarks.limit import least_seconds
from benchmarks.measurement import Result
from benchmarks.roster import ENGINES, MATMUL, PEERS, PENNYLANE, engine

LARGE_BATCHES = (Size(8, 3, 256), Size(8, 3, 1024), Size(8, 3, 4096))
DEEP = Size(16, 5, 32)
PEERS_LARGEST, WIDE = Size(16, 3, 32), Size(100, 3, 32)


@dataclass(frozen=True)
class Goal:
    """One of them."""

    text: str
    target: float
    """At least this."""

    figure: float | None
    """What this run reached; None if it did not measure what it takes."""

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches the target."""
        return None if self.figure is None else self.figure >= self.target


def goals(results: Sequence[Result]) -> list[Goal]:
    """All of them, for the results of a run."""
    found = []
    for size in LARGE_BATCHES:
        found.append(Goal(f"{size}: best peer / ours", 150, _best_peer(results, size)))
        pennylane = _ratio(results, size, PENNYLANE.name)
        found.append(Goal(f"{size}: {PENNYLANE.name} / ours", 400, pennylane))
    found.append(Goal(f"{DEEP}: best peer / ours", 100, _best_peer(results, DEEP)))
    text = f"best peer at {PEERS_LARGEST} / ours at {WIDE}"
    found.append(Goal(text, 20, _across_sizes(results)))
    for size in ENGINES:
        if (share := share_of_limit(results, size)) is not None:
            found.append(Goal(f"{size}: least time / native kernel", 0.5, share))
    return found


def share_of_limit(results: Iterable[Result], size: Size) -> float | None:
    """Of the native kernel's time, what the machine's own rate would leave of it."""
    product = _ratio(results, size, MATMUL.name)
    native = _ratio(results, size, engine("native").name)
    return None if product is None or native is None else least_seconds(size, product) / native


def unrest(results: Iterable[Result]) -> float:
    """How restless the machine was: the slowest round of the matrix product by the fastest, where
    that was largest. 1 is calm."""
    products = [r.seconds for r in results if r.program == MATMUL.name and r.seconds]
    return max((max(seconds) / min(seconds) for seconds in products), default=1.0)


def _find(results: Iterable[Result], size: Size, program: str) -> Result | None:
    for result in results:
        if result.size == size and result.program == program:
            return result
    return None


def _ratio(results: Iterable[Result], size: Size, program: str) -> float | None:
    """To the leader: at all sizes, the first of our engines."""
    result = _find(results, size, program)
    return None if result is None else result.ratio


def _best_peer(results: Sequence[Result], size: Size) -> float | None:
    ratios = [_ratio(results, size, peer.name) for peer in PEERS.values()]
    return min((value for value in ratios if value is not None), default=None)


def _across_sizes(results: Sequence[Result]) -> float | None:
    """Not within a turn, since the sizes are not measured together."""
    found = [_find(results, PEERS_LARGEST, peer.name) for peer in PEERS.values()]
    peers = [result.median_seconds for result in found if result is not None and result.seconds]
    wide = [_find(results, WIDE, engine(name).name) for name in ENGINES[WIDE][:1]]
    if not peers or not wide or wide[0] is None or not wide[0].seconds:
        return None
    return min(peers) / wide[0].median_seconds
