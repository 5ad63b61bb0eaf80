"""The exceptions of this project and the exit status that the command line gives each.

QuantumHybridError            exit 1: something failed; the message says what, where, what to do
├── UsageError                exit 2: a setting, a file or a value from the user is wrong
├── TeacherError              exit 1: the teacher's reply cannot be used
│   ├── TeacherUnreachable    the teacher cannot be reached, or fails after all retries
│   ├── TeacherRefused        the teacher refused (400, 401, 403, 404, ...): a retry would not help
│   └── TeacherSilent         the teacher returned no text for one prompt in every draw
├── TrainerError              exit 1: the Atropos API or the trainer accepts no groups
├── TrainingError             exit 1: an invalid figure (NaN loss, no gradient in the circuit)
├── CheckpointError           exit 2: a run directory or checkpoint cannot be read
├── ProcessLost               exit 1: another process of a data-parallel run has ended; resumable
├── WriteError                exit 1: the disk is full; files written before are intact
├── OutputError               exit 1: standard output cannot be written
│   └── ReaderGone            exit 141: its reader has closed the pipe, as `head` does
├── BudgetSpent               exit 3: a limit that the user set is reached; resumable
└── Interrupted               exit 130 (Ctrl-C) or 143 (SIGTERM): stopped on request, resumable

`study` exits with 3 instead of 1 if the study can go on.

A message names a field of the configuration in backticks, such as `seed`. The command line replaces
it by the flag.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path


class QuantumHybridError(Exception):
    """Base class of all errors that are shown as one line without a stack trace."""

    exit_status = 1

    def __init__(
        self, message: str = "", *, resumable_run: Path | None = None, quoted: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.resumable_run = resumable_run
        """Directory of the run, if it can be resumed once the cause is removed; else None."""
        self.quoted = quoted
        """Parts of the message that a server wrote. Backticks in them do not name a field."""

    def without_backticks(self) -> str:
        """The message where the fields it names are no flags, as in a study's plan."""
        return str(self).replace("`", "")


class UsageError(QuantumHybridError):
    """A setting, a file or a value from the user is wrong; nothing has been written."""

    exit_status = 2


class TeacherError(QuantumHybridError):
    """The teacher gives no answer, or one that cannot be used."""


class TeacherUnreachable(TeacherError):
    """No answer after all retries: connection refused, timeout, HTTP 429 or 5xx."""


class TeacherRefused(TeacherError):
    """The server refused the request, which was therefore not retried."""


class TeacherSilent(TeacherError):
    """The teacher returned no text for one prompt in every draw."""


class BudgetSpent(QuantumHybridError):
    """A limit on requests or cost is reached; all paid answers are kept."""

    exit_status = 3


class TrainerError(QuantumHybridError):
    """The Atropos API or its trainer cannot be reached or accepts no groups."""


class TrainingError(QuantumHybridError):
    """Training produced an invalid figure, such as a NaN loss or a zero circuit gradient."""


class CheckpointError(QuantumHybridError):
    """A file that a run wrote cannot be read back."""

    exit_status = 2


class ProcessLost(QuantumHybridError):
    """Another process of the run has ended or cannot be reached."""


class WriteError(QuantumHybridError):
    """A file of a run cannot be written. The run can be resumed once there is space."""


class OutputError(QuantumHybridError):
    """Standard output cannot be written."""


class ReaderGone(OutputError):
    """The reader of standard output has closed the pipe, as `head` does."""

    exit_status = 128 + signal.SIGPIPE  # As a shell reports a program that the signal has ended.


class Interrupted(QuantumHybridError):
    """A signal asked the run to stop; it stopped between two steps and can be resumed."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number
