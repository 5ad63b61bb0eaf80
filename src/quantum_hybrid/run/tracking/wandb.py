"""Metrics on Weights & Biases, or on disk for `wandb sync`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quantum_hybrid.errors import UsageError
from quantum_hybrid.run.tracking.tracker import finite
from quantum_hybrid.shown import shown

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


class WandbTracker:
    """Sends metrics to Weights & Biases, or keeps them on disk for `wandb sync`.

    `WANDB_MODE` sets the mode. Without it the mode is online if the environment, wandb's settings
    or the netrc file hold a login, and offline otherwise; the user is never asked for one. If the
    service refuses the login or cannot be reached, the run is logged offline and `announce` is
    called once. wandb tries for 10 s to log in and for INIT_TIMEOUT_S to start.

    Only the metrics, the name, the group and `config` are recorded: no code, git state, command
    line, host, package list or console output. All files go below `run_dir`.

    A resumed run continues the run of the same `run_id`. The service ignores steps it already has.
    Offline, each process has a directory of its own, and the newest one holds the whole run.

    Attributes:
        mode: `online`, `offline` or `disabled`, after the attempt to connect.
        url: the run's page when online.
        directory: the files of this run, for `wandb sync` when offline.
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
        checked = finite(step, metrics)
        if self._run is not None:
            measured = {} if time_s is None else {"_timestamp": time_s}
            try:
                self._run.log(checked | measured, step=step)
            except Exception as error:  # noqa: BLE001 - announced; wandb is only a view
                self._give_up(error)

    def close(self) -> None:
        """Upload the remaining metrics, for UPLOAD_TIMEOUT_S at most, and end wandb's own process.

        wandb has one background process for all runs of this process. It stays while another run
        is open.
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
        """Stop using wandb after a failure, for instance if its process was killed.

        The run continues; metrics.jsonl holds every metric.
        """
        import wandb

        self._run = None
        self._announce(
            f"Weights & Biases stopped working ({_one_line(error)}) and receives no more metrics "
            "of this run; metrics.jsonl has them all"
        )
        if wandb.run is None:  # Otherwise another part of this process may still use wandb.
            # This fails if wandb's process is gone, but keeps wandb from trying again at exit.
            with suppress(ConnectionError):
                wandb.teardown()


def _one_line(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__


def _requested_mode() -> str:
    """`WANDB_MODE` without its older synonyms; "" if it is unset, so that the login decides."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode and mode not in _MODES:
        raise UsageError(f"WANDB_MODE is {mode!r}; it must be online, offline or disabled")
    return _MODES.get(mode, "")


def _log_in() -> bool:
    """Whether there is a login. Raises wandb.Error if the service refuses it."""
    import wandb

    if wandb.run is not None:  # Another part of this process is logged in already.
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
        # By default wandb records the machine, the command line and the code.
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
    """Undo wandb's changes to this process after it has started, and keep its logs in run_dir.

    wandb wraps `sys.exit` and `sys.excepthook` for each run and never restores them, so after n
    runs in one process a traceback would be printed n times. It also writes a log below the home
    directory and reports its own errors to its makers, unless environment variables that its
    process inherits forbid it.
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
