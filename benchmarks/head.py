"""Time a training step's head: the hybrid's one pass against plain formulas; part of `make bench`.

At d = 768, V = 50,257 and 1,024 tokens, with 8 qubits and 3 layers: a step of the hybrid, all three
losses and metrics, in one pass (``training.one_pass``), against one of the classical pathway alone
and against the hybrid's plain formula, all in processes of their own (``head_step``). Plain and one
pass must agree before anything is timed. Rounds in turns, the median of ratios within a turn, peak
memory over the idle level. Prints a table, the goals, and as its last line one line of JSON.

While developing: ``python -m benchmarks.head --cases logits,frozen --size 64,5000,200``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job import Size, write_job
from benchmarks.machine import machine
from benchmarks.program import Program, ProgramFailed, Worker, confine, interruptions_held

SIZE = "768,50257,1024"
"""Width, vocabulary and tokens of the goals."""
ROUNDS = 9
LIMIT_SECONDS = 300.0
TOLERANCE = 1e-5
"""Of a loss in nats, and of the largest number of a gradient."""
MOST_TIME, MOST_MEMORY = 1.15, 0.5
"""The goals: of the classical step's time, of the plain formula's peak."""
WAYS = ("classical", "plain", "one pass")
Case = tuple[str, str]
CASES: tuple[Case, ...] = tuple(
    (mixing, decoder) for mixing in ("logits", "probability") for decoder in ("frozen", "trained")
)
SCRIPT = Path(__file__).with_name("head_step.py")
HEADER = (
    f"{'mixing':<13}{'decoder':<9}{'way':<11}{'median ms':>11}{'x classical':>13}"
    f"{'peak MiB':>10}{'x plain':>9}"
)


@dataclass
class Measured:
    """One way at one case."""

    seconds: list[float] = field(default_factory=list)
    """Of each turn."""
    peak_bytes: int | None = None


def main() -> None:
    """Print the table, the goals and the line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.head", description=__doc__)
    parser.add_argument("--cases", type=_case, nargs="+", default=list(CASES))
    parser.add_argument("--size", default=SIZE, help="width,vocabulary,tokens; default %(default)s")
    chosen = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a shell's background
        signal.signal(number, signal.default_int_handler)
    try:
        _run(chosen.cases, chosen.size)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except ProgramFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        raise SystemExit(1) from None


def _case(text: str) -> Case:
    cases = {",".join(case): case for case in CASES}
    if text not in cases:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {' '.join(cases)}")
    return cases[text]


def _run(cases: Sequence[Case], size: str) -> None:
    confine()
    load = round(os.getloadavg()[0], 2)
    print(f"Forward and backward of a head; width, vocabulary and tokens: {size};")
    print("x classical: median of ratios within turns;")
    print("peak: growth of the process over its idle level.")
    print(HEADER, flush=True)
    rows = []
    for case in cases:
        found = measure(case, size)
        rows += [_row(case, way, found) for way in WAYS]
        print("\n".join(_line(row) for row in rows[-len(WAYS) :]), flush=True)
    goals = [goal for row in rows if row["way"] == "one pass" for goal in _goals(row)]
    for goal in goals:
        verdict = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
        figure = "-" if goal["figure"] is None else f"{goal['figure']:.3f}"
        print(f"{goal['goal']:<60}at most {goal['at_most']:<6g}{figure:>7}  {verdict}")
    record = {
        "benchmark": "head",
        "machine": machine(),
        "load_before": load,
        "size": size,
        "rounds": ROUNDS,
        "tolerance": TOLERANCE,
        "rows": rows,
        "goals": goals,
    }
    print(json.dumps(record))


def measure(case: Case, size: str) -> dict[str, Measured]:
    """Each way's times and peak.

    Raises:
        ProgramFailed: one died, or plain and one pass do not give the same values.
    """
    found = {way: Measured() for way in WAYS}
    with ExitStack() as stack:
        with interruptions_held():
            programs = {way: Program(way, SCRIPT, (way, *case, size), ("torch",)) for way in WAYS}
            workers = {
                way: stack.enter_context(Worker(program, sys.executable))
                for way, program in programs.items()
            }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.npz"
            write_job(Size(1, 1, 1), path)  # The program wants none, but a worker reads one.
            for worker in workers.values():
                worker.ask("setup", LIMIT_SECONDS, job=str(path), packages=("torch",))
        first = {way: worker.ask("first", LIMIT_SECONDS) for way, worker in workers.items()}
        if reason := disagreement(first["plain"]["values"], first["one pass"]["values"]):
            raise ProgramFailed(f"one pass and plain formula differ in {reason}")
        for _ in range(ROUNDS):
            for way, worker in workers.items():
                runs = worker.ask("round", LIMIT_SECONDS, seconds=0.1)["seconds"]
                found[way].seconds.append(statistics.median(runs))
        for way, worker in workers.items():
            found[way].peak_bytes = worker.ask("peak", LIMIT_SECONDS)["bytes"]
    return found


def disagreement(plain: Sequence[Any], one_pass: Sequence[Any]) -> str | None:
    """What differs, and by how much; None if nothing does."""
    names = ("the losses", "the gradient by the hidden states", "the gradient by `up`")
    for name, expected, got in zip(names, plain, one_pass, strict=True):
        reference = np.asarray(expected)
        scale = 1.0 if name == "the losses" else float(np.abs(reference).max())
        distance = float(np.abs(reference - np.asarray(got)).max())
        if not distance <= TOLERANCE * scale:
            return f"{name}: by {distance:.2g}, allowed {TOLERANCE * scale:.2g}"
    return None


def _row(case: Case, way: str, found: dict[str, Measured]) -> dict[str, Any]:
    own, peak, plain = found[way], found[way].peak_bytes, found["plain"].peak_bytes
    turns = zip(own.seconds, found["classical"].seconds, strict=True)
    return {
        "mixing": case[0],
        "decoder": case[1],
        "way": way,
        "median_ms": round(1000 * statistics.median(own.seconds), 1),
        "least_ms": round(1000 * min(own.seconds), 1),
        "times_classical": round(statistics.median(a / b for a, b in turns), 3),
        "peak_bytes": peak,
        "peak_by_plain": None if peak is None or not plain else round(peak / plain, 3),
    }


def _line(row: dict[str, Any]) -> str:
    peak, share = row["peak_bytes"], row["peak_by_plain"]
    memory = "-" if peak is None else f"{peak / 2**20:.0f}"
    return (
        f"{row['mixing']:<13}{row['decoder']:<9}{row['way']:<11}{row['median_ms']:>11.0f}"
        f"{row['times_classical']:>13.2f}{memory:>10}{'-' if share is None else f'{share:.2f}':>9}"
    )


def _goals(row: dict[str, Any]) -> list[dict[str, Any]]:
    where = f"{row['mixing']}, {row['decoder']} decoder"
    figures = (
        (f"{where}: step by classical step", MOST_TIME, row["times_classical"]),
        (f"{where}: peak by plain formula's", MOST_MEMORY, row["peak_by_plain"]),
    )
    return [
        {"goal": text, "at_most": most, "figure": f, "met": None if f is None else f <= most}
        for text, most, f in figures
    ]


if __name__ == "__main__":
    main()
