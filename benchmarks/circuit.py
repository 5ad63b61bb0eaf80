"""Time one circuit layer, forward and backward, against other libraries: `make bench`.

Each library runs in an environment of its own (``environment``), each at each size in a process of
its own (``program``, ``worker``); all must give the same values before they are timed, in turns
(``measurement``). Prints a table, the goals, and as its last line one line of JSON.

While developing: ``python -m benchmarks.circuit --peers qulacs,pennylane --sizes 8,3,256``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence

from benchmarks import measurement, table
from benchmarks.agreement import TOLERANCE
from benchmarks.environment import InstallFailed, prepare
from benchmarks.goals import goals, unrest
from benchmarks.job import SEED, Size
from benchmarks.machine import machine
from benchmarks.measurement import Result, measure
from benchmarks.program import Program, confine
from benchmarks.roster import ENGINES, LARGEST_OF_PEERS, MATMUL, PEERS, engine

CALM = 1.5
"""Most that the rounds of a matrix product may differ by, as a factor."""


def main() -> None:
    """Print the table, the goals and the line of JSON."""
    chosen = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a shell's background
        signal.signal(number, signal.default_int_handler)
    try:
        _run(chosen.peers, chosen.sizes)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.circuit", description=__doc__)
    parser.add_argument("--peers", type=_peers, default=list(PEERS), help="names, with commas")
    parser.add_argument("--sizes", type=_size, nargs="+", default=list(ENGINES), help="n,L,batch")
    return parser.parse_args()


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"{sorted(unknown)[0]!r}; allowed: {', '.join(PEERS)}")
    return names


def _size(text: str) -> Size:
    sizes = {str(size): size for size in ENGINES}
    if text not in sizes:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {' '.join(sizes)}")
    return sizes[text]


def _run(peers: Sequence[str], sizes: Sequence[Size]) -> None:
    started = time.monotonic()
    pythons: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in dict.fromkeys(str(PEERS[peer].environment) for peer in peers):
        try:
            pythons[name] = prepare(name)
        except InstallFailed as failure:
            refused[name] = str(failure)
    confine()
    print("Forward and backward of one circuit layer, float32; x ours: against the first of ours,")
    print("within rounds; peak: growth of the process over its idle level.", flush=True)
    print(table.HEADER, flush=True)
    results: list[Result] = []
    for size in sizes:
        at_size = _measure(size, [PEERS[peer] for peer in peers], pythons, refused)
        print("\n".join(table.lines(at_size)), flush=True)
        results += at_size
    reached = goals(results)
    print("\n".join(table.goal_lines(reached)))
    factor = unrest(results)
    calm = (
        "calm" if factor < CALM else "BUSY: threads wait for each other; do not trust the figures"
    )
    print(f"slowest / fastest matrix product at one size: {factor:.2f}, the machine was {calm}")
    record = {
        "benchmark": "circuit",
        "machine": machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "slowest_by_fastest_matmul": round(factor, 2),
        "seed": SEED,
        "rounds": measurement.ROUNDS,
        "tolerance": TOLERANCE,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "versions": {result.program: result.versions for result in results if result.versions},
        "rows": table.rows(results),
        "goals": table.goal_rows(reached),
    }
    print(json.dumps(record))


def _measure(
    size: Size, peers: Sequence[Program], pythons: dict[str, str], refused: dict[str, str]
) -> list[Result]:
    programs = {engine(name): sys.executable for name in ENGINES[size]}
    missing = []
    if size.n_qubits <= LARGEST_OF_PEERS:
        programs[MATMUL] = sys.executable
        for peer in peers:
            name = str(peer.environment)
            if name in pythons:
                programs[peer] = pythons[name]
            else:
                missing.append(Result(peer.name, size, failure=refused[name]))
    return measure(size, programs) + missing


if __name__ == "__main__":
    main()
