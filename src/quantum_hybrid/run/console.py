"""Console output of a run: lines and a progress bar in a terminal, plain lines in a log file.

Text from servers and files is cleaned where it enters a message (`shown`). Every row is cleaned
here once more. Rich's markup and emoji names are switched off.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from quantum_hybrid.output import output_error
from quantum_hybrid.shown import shown_row


class _Terminal(RichConsole):
    """Rich's console ends the program in silence when nobody reads it any more; this one raises."""

    def on_broken_pipe(self) -> None:
        """Raise the `BrokenPipeError` on, within whose handler this is called."""
        raise


class Console:
    """Prints lines and a progress bar. Every line also goes to the log file, with its time."""

    def __init__(self, log_path: Path) -> None:
        self._log = log_path.open("a", encoding="utf-8", buffering=1)
        self._rich = _Terminal(markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def line(self, text: str = "") -> None:
        """Print one or more lines and log them.

        Raises `OutputError` if they cannot be printed. Later lines are only logged.
        """
        rows = "\n".join(map(shown_row, text.split("\n")))
        encoding = self._rich.encoding
        self.log(text)
        try:
            self._rich.print(rows.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._rich.quiet = True
            raise output_error(error) from error

    def log(self, text: str) -> None:
        """Write to the log file only."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        for row in text.split("\n"):
            self._log.write(f"{stamp} {shown_row(row)}\n")

    def start_progress(self, total_steps: int, done: int) -> None:
        """Show the bar. When output is not a terminal, `advance` prints lines instead."""
        if not self._rich.is_terminal:
            return
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._rich,
        )
        self._task = self._progress.add_task("waiting for the teacher", total=total_steps)
        self._progress.update(self._task, completed=done)
        self._progress.start()

    def advance(self, step: int, description: str) -> None:
        """Show that a step is done, with a description such as loss, alpha and speed."""
        row, bar = f"step {step}  {description}", shown_row(description)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, description=bar)
            self.log(row)
        else:
            self.line(row)

    def stop_progress(self) -> None:
        """Stop updating the bar; its last state stays on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        """Stop the bar and close the log file."""
        self.stop_progress()
        self._log.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
