"""Every error this project raises on purpose, and the exit status the command line gives it.

QuantumHybridError            exit 1: something failed; the message says what, where, what to do
├── UsageError                exit 2: a setting, a file or a value the user gave is wrong
├── TeacherError              exit 1: the teacher did not answer as an OpenAI-compatible server
│   ├── TeacherUnreachable    it could not be reached, or failed after all retries
│   ├── TeacherRefused        it said no (400, 401, 403, 404, ...): retrying would not help
│   └── TeacherSilent         it has no text for one prompt, however often it is asked
├── TrainerError              exit 1: the Atropos API or trainer that is served takes no groups
├── TrainingError             exit 1: a number that must not be (NaN loss, no circuit gradient)
├── CheckpointError           exit 2: a run directory or checkpoint cannot be read as written
├── ProcessLost               exit 1: another process of a data-parallel run has ended; resumable
├── WriteError                exit 1: no room on the disk; what was kept before is whole
├── BudgetSpent               exit 3: a limit that the user set is reached; resumable
└── Interrupted               exit 130 (Ctrl-C) or 143 (SIGTERM): stopped on request, resumable

A message names a field of the configuration in backticks, such as `seed`; the command line says
which flag that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class QuantumHybridError(Exception):
    """Base of all errors that are shown as one line, without a stack trace."""

    exit_status = 1

    def __init__(
        self, message: str = "", *, resumable_run: Path | None = None, quoted: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.resumable_run = resumable_run
        """Directory of a run that can go on, once what the message says is mended."""
        self.quoted = quoted
        """Parts of the message that are a server's words: they name no field of ours."""


class UsageError(QuantumHybridError):
    """A setting, a file or a value is wrong; nothing has been written."""

    exit_status = 2


class TeacherError(QuantumHybridError):
    """The teacher's answer cannot be had or cannot be used."""


class TeacherUnreachable(TeacherError):
    """No answer after all retries: connection refused, time-outs, 429 or 5xx."""


class TeacherRefused(TeacherError):
    """The server refused the request itself, so it was not repeated."""


class TeacherSilent(TeacherError):
    """The teacher wrote nothing to one prompt, every time it was asked."""


class BudgetSpent(QuantumHybridError):
    """A limit on requests or on cost is reached; everything paid for is kept."""

    exit_status = 3


class TrainerError(QuantumHybridError):
    """Whom groups are served to cannot be reached, or takes none of them."""


class TrainingError(QuantumHybridError):
    """Training reached a state whose numbers would mean nothing."""


class CheckpointError(QuantumHybridError):
    """Something a run wrote cannot be read back."""

    exit_status = 2


class ProcessLost(QuantumHybridError):
    """Another process of the same run has ended or cannot be reached."""


class WriteError(QuantumHybridError):
    """Something a run leaves cannot be written; it can be resumed once there is room."""


class Interrupted(QuantumHybridError):
    """A signal asked the run to stop; it stopped between two steps and can be resumed."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number
