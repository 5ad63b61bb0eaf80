"""The study's own test: simulated studies with known truth, on kept features.

    python -m benchmarks.instrument FEATURES [--studies N] [--seed S] [--kept FILE] [--summary FILE]

FEATURES is a file of torch.save: a dict of g and c (rows, d_model), decoder inputs c of the
classical pathway, targets and unit (rows), the number of each row's text, and decoder (words,
d_model). See ``benchmarks.instrument`` for what is simulated. First kappa is found for
the planted differences of 0.005 and 0.02 nats, on pilot studies that count nowhere else. Then come
N studies of each case: A/A and both planted ones; and N / 2 of the smaller one that share four
training sets. What is done is kept in FILE, a line each, and is not done again.

Prints tables and, as its last line, one line of JSON; --summary writes the same to a file.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.instrument.cases import Case, Outcome, Size
from benchmarks.instrument.kept import Kept
from benchmarks.instrument.simulation import find_kappa, outcomes, simulate
from benchmarks.instrument.summary import Summary
from benchmarks.instrument.world import Teacher, World
from benchmarks.machine import machine
from quantum_hybrid.study.arms import SUBJECT

RIVAL = "identity"
PLANTED = (0.005, 0.02)
"""Nats per token."""
PILOTS = 8
FIRST_PILOT = 1_000_000
"""Seed of the first; the studies have those from 0."""
TRAINING_SETS = 4


def pilot(world: World, kept: Kept, kappa: float) -> float:
    """Mean difference of identity and subject at this kappa."""
    if kappa not in kept.pilots:
        case, teacher = Case("pilot", RIVAL, 0.0, kappa), Teacher(world, kappa)
        seeds = range(FIRST_PILOT, FIRST_PILOT + PILOTS)
        found = fmean(simulate(world, teacher, case, seed).difference for seed in seeds)
        kept.add_pilot(kappa, found)
        print(f"pilot: kappa {kappa}, difference {found:+.5f}", file=sys.stderr, flush=True)
    return kept.pilots[kappa]


def cases(world: World, kept: Kept) -> list[Case]:
    """All that is simulated."""
    small, large = (find_kappa(lambda k: pilot(world, kept, k), planted) for planted in PLANTED)
    return [
        Case("A/A", SUBJECT, 0.0, large),
        Case("0.005", RIVAL, PLANTED[0], small),
        Case("0.02", RIVAL, PLANTED[1], large),
        Case("0.005, shared", RIVAL, PLANTED[0], small, TRAINING_SETS),
    ]


def run(world: World, kept: Kept, case: Case, n_studies: int) -> None:
    """Simulate what is not done yet."""
    done = {outcome.seed for outcome in kept.outcomes if outcome.case == case.name}
    teacher = Teacher(world, case.kappa)
    for seed in (seed for seed in range(n_studies) if seed not in done):
        started = time.perf_counter()
        losses = simulate(world, teacher, case, seed)
        kept.add(list(outcomes(losses, case, seed, world.size)))
        seconds = time.perf_counter() - started
        print(f"{case.name}: {seed + 1} of {n_studies}, {seconds:.1f} s", file=sys.stderr)


def tables(kept: Kept, planned: Sequence[Case], size: Size) -> dict[str, list[dict[str, Any]]]:
    """rows: the study's size; parts: smaller ones; training_sets: what a shared one does."""
    whole = (size.n_seeds, size.n_held_out)
    free = [case for case in planned if case.n_training_sets is None]
    shared = [case for case in planned if case.n_training_sets is not None]
    return {
        "rows": [Summary(case, kept.of(case, whole), size.margin).row() for case in free],
        "parts": [
            Summary(case, kept.of(case, part), size.margin).row()
            for case in free
            for part in size.parts
        ],
        "training_sets": [
            row
            for case in shared
            for row in _by_training_set(case, kept.of(case, whole), size.margin)
        ],
    }


def _by_training_set(case: Case, found: Sequence[Outcome], margin: float) -> list[dict[str, Any]]:
    """Each study judged by the others of its training set; a row for each set, then for all."""
    groups = [
        [one for one in found if one.training_set == number]
        for number in sorted({one.training_set for one in found})
    ]
    return [Summary(case, group, margin, own_truth=True).row() for group in [*groups, list(found)]]


def show(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table with the figures as columns of cases."""
    print(f"\n{name}")
    for key in rows[0]:
        print(f"  {key:<22}" + "".join(f"{row[key]!s:>16.16}" for row in rows))


def main() -> None:
    """Print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.instrument", description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--studies", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=Path("instrument.jsonl"))
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    gc.freeze()  # statsmodels collects garbage in every correction: a quarter of a second each.
    data = torch.load(given.features, mmap=True, weights_only=True)
    size = Size()
    world = World(
        data["g"], data["c"], data["targets"], data["unit"], data["decoder"], size, given.seed
    )
    kept = Kept(given.kept, {"seed": given.seed, "size": asdict(size), "rows": len(data["g"])})
    planned = cases(world, kept)
    for case in planned:
        run(world, kept, case, given.studies // (1 if case.n_training_sets is None else 2))
    summary = {
        "n_studies": given.studies,
        "n_seeds": size.n_seeds,
        "n_prompts": size.n_held_out,
        "size": asdict(size),
        "command": shlex.join(["python", "-m", "benchmarks.instrument", *_arguments(given)]),
        "commit": kept.commit,
        "machine": machine() | {"threads_used": torch.get_num_threads()},
        **tables(kept, planned, size),
    }
    for name in ("rows", "parts", "training_sets"):
        show(name, summary[name])
    if given.summary:
        given.summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary))


def _arguments(given: argparse.Namespace) -> list[str]:
    """The command's arguments, without the folders of this machine."""
    return [given.features.name, "--studies", str(given.studies), "--seed", str(given.seed)]


if __name__ == "__main__":
    main()
