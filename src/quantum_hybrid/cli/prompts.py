"""`prompts`: let the embedded teacher write prompts, and keep the usable ones in a file."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from quantum_hybrid.errors import Interrupted, UsageError, WriteError
from quantum_hybrid.output import say
from quantum_hybrid.paths import user_path
from quantum_hybrid.processes.launch import Launch

if TYPE_CHECKING:
    from quantum_hybrid.teacher import PromptWriter
    from quantum_hybrid.text.selection import PromptSelection

HELP = "let the embedded teacher write prompts, for --env.prompts"
MOST_PROMPTS = 100_000
PROMPTS_PER_LINE = 25
"""Number of prompts between two lines of progress."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """How many prompts, from which seed, into which file."""
    parser.add_argument(
        "--count",
        type=_whole_number(1, MOST_PROMPTS),
        required=True,
        metavar="N",
        help="number of prompts to write",
    )
    parser.add_argument(
        "--seed",
        type=_whole_number(0, 2**31 - 1),
        default=0,
        metavar="SEED",
        help="seed of the sampling; another seed gives other prompts [0]",
    )
    parser.add_argument(
        "file", metavar="FILE", help="file to write, as lines of JSON; it must not exist yet"
    )


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Write the file. What was drawn stays in the cache of answers, so a second start goes on."""
    file = user_path(namespace.file, f"FILE {namespace.file!r}")
    _require_new(file)
    from quantum_hybrid.processes.cores import half_of_the_cores
    from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher, PromptWriter, answers_path
    from quantum_hybrid.text.selection import PromptSelection

    selection = PromptSelection()
    try:
        with AnswerCache(answers_path()) as cache, EmbeddedTeacher(half_of_the_cores()) as embedded:
            writer = PromptWriter(embedded.server, cache, namespace.seed)
            say(f"writing {namespace.count} prompts with the embedded teacher")
            asyncio.run(_select(writer, namespace.count, selection))
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {selection.n_offered} candidates are kept in the cache: the same "
            "command goes on from there",
            signal.SIGINT,
        ) from None
    _require_new(file)
    _write(file, selection)
    say(f"{file}: {selection.summary}")
    return 0


async def _select(writer: PromptWriter, count: int, selection: PromptSelection) -> None:
    """Let the teacher write until the selection holds `count` prompts."""
    started = time.monotonic()
    async with aclosing(writer.prompts(selection)) as prompts:
        async for _ in prompts:
            n_kept = len(selection.prompts)
            if n_kept == count:
                return
            if n_kept % PROMPTS_PER_LINE == 0:
                seconds = time.monotonic() - started
                said = f"{n_kept:6} prompts from {selection.n_offered} candidates, {seconds:.0f} s"
                say(said)


def _require_new(file: Path) -> None:
    """Raise `UsageError` if FILE exists or cannot be created."""
    try:
        if file.exists():
            raise UsageError(f"{file}: exists; name a new file")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error


def _write(file: Path, selection: PromptSelection) -> None:
    from quantum_hybrid.durable import write_bytes
    from quantum_hybrid.text import PromptSet

    try:
        write_bytes(file, PromptSet(tuple(selection.prompts)).as_lines())
    except OSError as error:
        raise WriteError(
            f"{file}: cannot be written: {error.strerror}; the candidates are kept in the cache: "
            "make room and give the same command again"
        ) from error


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"invalid value {text!r}: must be a whole number from {low} to {high:,}"
            )
        return int(text)

    return read
