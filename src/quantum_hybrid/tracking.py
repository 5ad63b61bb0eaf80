"""Where a run's numbers go: `metrics.jsonl`, TensorBoard and Weights & Biases, one interface.

A tracker takes a step and a mapping from metric names (`train/hybrid_loss`) to finite numbers:

    trackers = Trackers([JsonlTracker(run / "metrics.jsonl"), TensorBoardTracker(run / "events")])
    trackers.log(3, {"train/hybrid_loss": 4.2})
    trackers.close()

`metrics.jsonl` is the record that the report reads; the other two are views of the same numbers,
which a resumed run fills anew from it, as a killed one took along what they had not yet written.
It holds one object a line, `{"step": 3, "time_s": 1767225600.0, "train/hybrid_loss": 4.2}`, with
`time_s` in seconds since 1970. A line is complete once its newline is written, so a run that is
killed can tear the last line at most; when it resumes from a checkpoint, `truncate_metrics` drops
what was logged after that checkpoint. A number that is not finite means nothing: all trackers
refuse it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import CheckpointError, TrainingError, UsageError

if TYPE_CHECKING:
    import wandb

INIT_TIMEOUT_S = 15
UPLOAD_TIMEOUT_S = 60

_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


class Tracker(Protocol):
    """Takes the numbers of a run as they are measured."""

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        """Record the metrics of a training step; several calls may share a step.

        `time_s` is when they were measured, in seconds since 1970; None stands for now. Raises
        `TrainingError`, and records nothing of the call, if a metric is NaN or infinite.
        """

    def close(self) -> None:
        """Finish writing. Closing twice does no harm."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        finite = _finite(step, metrics)
        for tracker in self._trackers:
            tracker.log(step, finite, time_s)

    def close(self) -> None:
        """Close all, in order, even when one fails; then raise what failed."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.close)


def replay(rows: Sequence[Mapping[str, Any]], tracker: Tracker) -> None:
    """Log the rows of a metrics.jsonl again, with the times that stand in them."""
    for row in rows:
        metrics = {name: value for name, value in row.items() if name not in ("step", "time_s")}
        tracker.log(row["step"], metrics, row["time_s"])


def _finite(step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} is {float(value)} at step {step}: training has diverged; start a new run "
                "with a lower --env.learning_rate"
            )
    return {name: float(value) for name, value in metrics.items()}


# --- metrics.jsonl ---------------------------------------------------------------------------


class JsonlTracker:
    """Appends each call as one line of JSON, flushed before the call returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
            truncate_metrics(path, sys.maxsize)
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        when = round(time.time() if time_s is None else time_s, 3)
        row = {"step": step, "time_s": when, **_finite(step, metrics)}
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()


class _Line(NamedTuple):
    text: bytes
    row: dict[str, Any]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first; a torn last line is left out.

    Raises `CheckpointError` if the file is missing, or any other line is not a row with a step.
    """
    return [line.row for line in _read_lines(path)]


def truncate_metrics(path: Path, last_step: int) -> int:
    """Keep the rows up to `last_step`, drop a torn last line, and return how many steps there are.

    Step 0 is not counted. The file is replaced as a whole, so a crash leaves either the old file
    or the new one. A run that stopped before it logged anything has no file, and nothing is done.
    Raises `CheckpointError` if a line other than a torn last one is not a row with a step.
    """
    if not path.exists():
        return 0
    kept = [line for line in _read_lines(path) if line.row["step"] <= last_step]
    write_bytes(path, b"".join(line.text + b"\n" for line in kept))
    return len({line.row["step"] for line in kept} - {0})


def _read_lines(path: Path) -> list[_Line]:
    try:
        *complete, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    lines = [
        _Line(text, _parse_row(text, f"{path}, line {number}"))
        for number, text in enumerate(complete, start=1)
    ]
    with suppress(CheckpointError):
        # A whole row that lacks only its newline is kept; a part of one is torn.
        lines.append(_Line(tail, _parse_row(tail, str(path))))
    return lines


def _parse_row(text: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise CheckpointError(f"{place}: not a line of JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise CheckpointError(f'{place}: not an object with an integer "step"')
    return row


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number a run writes")


# --- TensorBoard -----------------------------------------------------------------------------


class TensorBoardTracker:
    """Writes scalars as TensorBoard event files: `tensorboard --logdir DIRECTORY`.

    What an earlier process of the run wrote into the directory is removed: two that started within
    the same second would be read in the wrong order.
    """

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for earlier in directory.glob("events.out.tfevents.*"):
            earlier.unlink()
        self._writer = SummaryWriter(str(directory), flush_secs=10)

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        for name, value in _finite(step, metrics).items():
            self._writer.add_scalar(name, value, step, walltime=time_s)

    def close(self) -> None:
        self._writer.close()


# --- Weights & Biases ------------------------------------------------------------------------


class WandbTracker:
    """Sends the numbers to Weights & Biases, or keeps them on disk for `wandb sync`.

    The mode is `WANDB_MODE` where that is set; otherwise online when a login is found in the
    environment, the settings or the netrc file, and offline when none is. It never asks for one.
    A service that refuses the login or cannot be reached (wandb tries for 10 s to log in and for
    INIT_TIMEOUT_S to start) makes the run offline, and says so once through `announce`.

    Only the metrics, the name, the group and `config` are recorded: no code, no git state, no
    command line, no host, no package list, no console output. All files go below `run_dir`.

    A resumed run continues the run of the same `run_id`. The service ignores steps it already
    has; offline, each process has a directory of its own, and the newest one holds the whole run.

    Attributes:
        mode: `online`, `offline` or `disabled`, as it turned out.
        url: the run's page when online.
        directory: the files of this run; what `wandb sync` takes when offline.
    """

    def __init__(
        self,
        *,
        project: str,
        name: str,
        run_dir: Path,
        run_id: str,
        config: Mapping[str, Any],
        announce: Callable[[str], None],
        group: str | None = None,
    ) -> None:
        self._announce = announce
        self._run: wandb.Run | None = None
        self.url: str | None = None
        self.directory: Path | None = None
        self.mode = _requested_mode()
        if self.mode == "disabled":
            return
        # wandb moves to a temporary directory when this one is missing.
        run_dir.mkdir(parents=True, exist_ok=True)
        start = {
            "project": project,
            "name": name,
            "group": group,
            "dir": str(run_dir),
            "id": run_id,
            "config": dict(config),
        }
        with _process_state_kept(run_dir):
            self._run = self._start(start)
        self.mode = "offline" if self._run.offline else "online"
        self.url = self._run.url
        self.directory = Path(self._run.settings.sync_dir)

    def _start(self, start: dict[str, Any]) -> wandb.Run:
        import wandb

        try:
            wandb.setup(settings=wandb.Settings(silent=True, quiet=True))
            return self._start_online_or_offline(start)
        # wandb's settings raise ValueError for a bad WANDB_ variable.
        except (wandb.Error, ValueError) as error:
            raise UsageError(
                f"Weights & Biases cannot start ({_one_line(error)}); "
                "set WANDB_MODE=disabled to go without it"
            ) from error

    def _start_online_or_offline(self, start: dict[str, Any]) -> wandb.Run:
        why_not = None
        try:
            if self.mode != "offline" and _log_in():
                return _start_run("online", start)
            if self.mode == "online":
                why_not = "WANDB_MODE is online, but there is no login: run `wandb login`"
        except Exception as error:  # noqa: BLE001 - announced; wandb is only a view
            why_not = _one_line(error)
        run = _start_run("offline", start)
        if why_not is not None:
            self._announce(
                f"Weights & Biases is offline ({why_not}). This run is kept on disk; "
                f"send it later with: wandb sync {run.settings.sync_dir}"
            )
        return run

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        finite = _finite(step, metrics)
        if self._run is not None:
            measured = {} if time_s is None else {"_timestamp": time_s}
            try:
                self._run.log(finite | measured, step=step)
            except Exception as error:  # noqa: BLE001 - announced; wandb is only a view
                self._give_up(error)

    def close(self) -> None:
        """Upload what is left, for UPLOAD_TIMEOUT_S at most, and end wandb's own process.

        wandb has one background process for all runs of this process; it stays while another
        run is open.
        """
        if self._run is None:
            return
        import wandb

        try:
            self._run.finish()
        except TimeoutError:
            self._announce(
                "Weights & Biases did not take everything in time; "
                f"send the rest with: wandb sync {self.directory}"
            )
        except Exception as error:  # noqa: BLE001 - announced; wandb is only a view
            self._give_up(error)
            return
        self._run = None
        if wandb.setup().most_recent_active_run is None:
            wandb.teardown()

    def _give_up(self, error: Exception) -> None:
        """wandb failed, by its process being killed for instance: a view is lost, not the run."""
        import wandb

        self._run = None
        self._announce(
            f"Weights & Biases stopped working ({_one_line(error)}) and gets no more numbers of "
            "this run; metrics.jsonl has them all"
        )
        if wandb.run is None:  # Else another part of this process may still use it.
            # This fails where the process is gone, but is then not tried again at exit.
            with suppress(ConnectionError):
                wandb.teardown()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _requested_mode() -> str:
    """`WANDB_MODE` by its present name, or "" where the login decides."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode and mode not in _MODES:
        raise UsageError(f"WANDB_MODE is {mode!r}; it must be online, offline or disabled")
    return _MODES.get(mode, "")


def _log_in() -> bool:
    """Whether there is a login that the service accepts; raises wandb.Error if it refuses it."""
    import wandb

    if wandb.run is not None:  # Another part of this process logs too: its login stands.
        return not wandb.run.offline
    return wandb.login(prompt=False, verify=True)


def _start_run(mode: Literal["online", "offline"], start: dict[str, Any]) -> wandb.Run:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        quiet=True,
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=UPLOAD_TIMEOUT_S,
        finish_timeout_raises=True,
        symlink=False,
        # What wandb would otherwise record about the machine, the command line and the code.
        host="",
        program="",
        x_executable="",
        disable_code=True,
        save_code=False,
        disable_git=True,
        disable_job_creation=True,
        label_disable=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    return wandb.init(**start, mode=mode, resume="allow", reinit="create_new", settings=settings)


@contextmanager
def _process_state_kept(run_dir: Path) -> Iterator[None]:
    """What wandb changes in this process when it starts, undone; and its own logs in run_dir.

    It replaces `sys.exit` and `sys.excepthook` for good, once a run: after some runs in one
    process a traceback would be printed as often. It writes a log below the home directory and
    reports its own errors to its makers, unless variables that its process inherits say otherwise.
    """
    exit_before, excepthook_before = sys.exit, sys.excepthook
    wanted = {
        "WANDB_CACHE_DIR": str(run_dir / "wandb" / "cache"),
        "WANDB_ERROR_REPORTING": "false",
    }
    absent = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(absent)
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)
        sys.exit, sys.excepthook = exit_before, excepthook_before
