"""Standard output and standard error of the command line, which may be full or without a reader.

What is meant for standard output is written with `say`. A failure is an `OutputError`, which ends
the program with one line on standard error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from quantum_hybrid.errors import OutputError, ReaderGone


def say(text: str) -> None:
    """Print one or more lines on standard output at once. Raises `OutputError`."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise output_error(error) from error


def output_error(error: OSError) -> OutputError:
    """The error for a failure to write to standard output."""
    if isinstance(error, BrokenPipeError):
        return ReaderGone("nobody reads the output any more")
    return OutputError(f"standard output cannot be written: {error.strerror}")


def complain(line: str) -> None:
    """Print a line on standard error. If that cannot be written either, nobody can be told."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def drop_unwritten() -> None:
    """Drop what the two outputs would not take, at the end of the program.

    Python would write it once more at exit, print the error and change the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # The program was started with this output closed.
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
