"""All programs at one size: first the same values from all (``agreement``), then rounds in turns.

Every program is started anew for a size, and all wait while one runs. A round is a tenth of a
second of runs, or one run, of which the median counts. In every turn the first program, the
leader, has a round, then each of the others: ratios are taken within a turn, so a machine whose
speed drifts favours none. A slow program has its turns alone with the leader, and its process then
ends: some keep gigabytes.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.agreement import disagreements
from benchmarks.job import Size, write_job
from benchmarks.program import Program, ProgramFailed, Worker, interruptions_held

ROUNDS = 7
ROUND_SECONDS = 0.1
PROGRAM_SECONDS = 8.0
"""Who has run that long in its rounds at a size has no more of them."""

SLOW_SECONDS = 1.0
"""A program whose first run takes longer has its turns alone with the leader."""

ONCE_SECONDS = 20.0
"""A program whose first run takes longer is not run again."""

SETUP_SECONDS = 180.0
RUN_SECONDS = 90.0


@dataclass
class Result:
    """What was found out about a program at a size."""

    program: str
    size: Size
    seconds: list[float] = field(default_factory=list)
    """Of each round; of the first run alone if ``once``."""

    beside: list[float] = field(default_factory=list)
    """The leader's in the same turns; empty if the leader failed."""

    once: bool = False
    peak_bytes: int | None = None
    """Growth of its memory over its idle level (imported, built, compiled), at most."""

    versions: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    """Why there are no seconds."""

    @property
    def median_seconds(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float | None:
        """How many times longer than the leader it took: the median over the turns."""
        if not self.seconds or len(self.beside) != len(self.seconds):
            return None
        turns = zip(self.seconds, self.beside, strict=True)
        return statistics.median(own / leader for own, leader in turns)


def measure(size: Size, programs: Mapping[Program, str]) -> list[Result]:
    """Results of the programs, each with the Python that runs it, in their order.

    The first program is the leader.
    """
    if not programs:
        return []
    results = {program: Result(program.name, size) for program in programs}
    with ExitStack() as stack:
        with interruptions_held():
            workers = {
                program: stack.enter_context(Worker(program, python))
                for program, python in programs.items()
            }
        _Race(size, workers, results).run()
    return list(results.values())


class _Race:
    def __init__(
        self, size: Size, workers: dict[Program, Worker], results: dict[Program, Result]
    ) -> None:
        self._size = size
        self._workers = workers
        self._results = results
        self._leader = next(iter(workers))
        self._values: dict[Program, list[Any]] = {}

    def run(self) -> None:
        self._set_up()
        self._each(self._first)
        for program, reason in disagreements(self._values).items():
            self._fail(program, reason)
        self._take_turns(self._workers)
        for program in list(self._workers):
            self._dismiss(program)

    def _set_up(self) -> None:
        """All at once: imports and compilers take their time."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.npz"
            write_job(self._size, path)
            self._each(
                lambda program, worker: worker.send(
                    "setup", job=str(path), packages=program.packages
                )
            )
            answers = self._each(lambda _, worker: worker.receive(SETUP_SECONDS))
        for program, answer in answers.items():
            self._results[program].versions = answer["versions"]

    def _first(self, program: Program, worker: Worker) -> None:
        """The values; and all there is to measure of a slow program."""
        first = worker.ask("first", RUN_SECONDS)
        self._values[program] = first["values"]
        if program == self._leader or first["seconds"] <= SLOW_SECONDS:
            return
        if first["seconds"] > ONCE_SECONDS:
            result = self._results[program]
            result.once, result.seconds = True, [first["seconds"]]
            result.beside = self._lead()
        else:
            self._take_turns({program: worker})
        self._dismiss(program)

    def _take_turns(self, programs: Collection[Program]) -> None:
        for _ in range(ROUNDS):
            waiting = [program for program in programs if self._has_time_left(program)]
            if not waiting:
                return
            leading = self._lead()
            for program in waiting:
                if program in self._workers:
                    is_leader = program == self._leader
                    seconds = leading if is_leader else self._round(program)
                    self._results[program].seconds += seconds
                    self._results[program].beside += leading if seconds else []

    def _has_time_left(self, program: Program) -> bool:
        spent = sum(self._results[program].seconds)
        return program in self._workers and spent <= PROGRAM_SECONDS

    def _lead(self) -> list[float]:
        return self._round(self._leader)

    def _round(self, program: Program) -> list[float]:
        """Its seconds, as a list of one; of none if it has failed."""
        answers = self._each(
            lambda _, worker: worker.ask("round", RUN_SECONDS, seconds=ROUND_SECONDS), [program]
        )
        return [statistics.median(answer["seconds"]) for answer in answers.values()]

    def _dismiss(self, program: Program) -> None:
        answers = self._each(lambda _, worker: worker.ask("peak", RUN_SECONDS), [program])
        if program in answers:
            self._results[program].peak_bytes = answers[program]["bytes"]
            self._workers.pop(program).close()

    def _each(
        self, ask: Callable[[Program, Worker], Any], programs: Collection[Program] | None = None
    ) -> dict[Program, Any]:
        """The answers of those that live, one after another; who fails is out."""
        answers = {}
        for program, worker in list(self._workers.items()):
            if programs is None or program in programs:
                try:
                    answers[program] = ask(program, worker)
                except ProgramFailed as failure:
                    self._fail(program, str(failure))
        return answers

    def _fail(self, program: Program, reason: str) -> None:
        result = self._results[program]
        result.failure, result.seconds, result.beside = reason, [], []
        self._values.pop(program, None)
        if program in self._workers:
            self._workers.pop(program).close()
