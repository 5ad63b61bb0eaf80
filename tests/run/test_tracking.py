"""The three trackers, written and read back with their own software, without a network."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from quantum_hybrid.errors import CheckpointError, TrainingError, UsageError
from quantum_hybrid.run.tracking import (
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    Trackers,
    WandbTracker,
    read_metrics,
    replay,
    truncate_metrics,
)
from wandb_files import history

LOSS = "train/hybrid_loss"


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    """Five steps, as a run that was stopped normally leaves them."""
    path = tmp_path / "run" / "metrics.jsonl"
    tracker = JsonlTracker(path)
    for step in range(1, 6):
        tracker.log(step, {LOSS: 6.0 - step})
    tracker.close()
    return path


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


# --- metrics.jsonl ---------------------------------------------------------------------------


def test_a_row_is_one_line_and_is_on_disk_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log(3, {LOSS: 4.25, "train/alpha_value": 0.5})
    (line,) = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    tracker.close()
    tracker.close()
    assert list(row) == ["step", "time_s", LOSS, "train/alpha_value"]
    assert (row["step"], row[LOSS]) == (3, 4.25)
    assert read_metrics(path) == [row]


def test_a_second_tracker_appends(metrics_file):
    tracker = JsonlTracker(metrics_file)
    tracker.log(6, {LOSS: 0.1})
    tracker.close()
    assert steps(metrics_file) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_number_that_is_not_finite_is_refused_by_name(tmp_path, value, wrap):
    path = tmp_path / "metrics.jsonl"
    jsonl = JsonlTracker(path)
    tracker: Tracker = Trackers([jsonl]) if wrap else jsonl
    with pytest.raises(TrainingError, match=r"train/hybrid_loss .* step 7"):
        tracker.log(7, {"train/alpha_value": 0.5, LOSS: value})
    tracker.close()
    assert path.read_bytes() == b""


def test_a_torn_last_line_is_ignored_wherever_it_was_torn(metrics_file):
    whole = metrics_file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(whole) - 1):
        metrics_file.write_bytes(whole[:end])
        assert steps(metrics_file) == [1, 2, 3, 4]
    metrics_file.write_bytes(whole[:-1])
    assert steps(metrics_file) == [1, 2, 3, 4, 5], "only its newline is missing"


def test_a_power_cut_may_leave_zeros(metrics_file):
    metrics_file.write_bytes(metrics_file.read_bytes() + b"\0" * 40)
    assert steps(metrics_file) == [1, 2, 3, 4, 5]


def test_logging_after_a_torn_line_starts_a_new_one(metrics_file):
    metrics_file.write_bytes(metrics_file.read_bytes()[:-9])
    tracker = JsonlTracker(metrics_file)
    tracker.log(5, {LOSS: 1.5})
    tracker.close()
    assert steps(metrics_file) == [1, 2, 3, 4, 5]
    assert read_metrics(metrics_file)[-1][LOSS] == 1.5


@pytest.mark.parametrize(
    "bad",
    ["{", "[1, 2]", '{"train/hybrid_loss": 1.0}', '{"step": 2, "x": NaN}', "", '{"step": "2"}'],
)
def test_any_other_bad_line_is_named(metrics_file, bad):
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    metrics_file.write_text("\n".join([lines[0], bad, *lines[2:]]) + "\n", encoding="utf-8")
    before = metrics_file.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2"):
        read_metrics(metrics_file)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2"):
        truncate_metrics(metrics_file, 3)
    assert metrics_file.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_resuming_keeps_the_rows_up_to_the_checkpoint_byte_for_byte(metrics_file):
    whole = metrics_file.read_bytes()
    metrics_file.write_bytes(whole + b'{"step": 6, "tra')
    truncate_metrics(metrics_file, 3)
    assert metrics_file.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    assert [path.name for path in metrics_file.parent.iterdir()] == ["metrics.jsonl"]


def test_resuming_a_run_that_logged_nothing_writes_nothing(tmp_path):
    truncate_metrics(tmp_path / "metrics.jsonl", 0)
    assert list(tmp_path.iterdir()) == []


# --- several at once -------------------------------------------------------------------------


class FailsToClose:
    def log(self, step, metrics, time_s=None):
        pass

    def close(self):
        raise OSError("disk full")


def test_all_are_closed_even_when_one_fails(tmp_path):
    first, last = JsonlTracker(tmp_path / "first"), JsonlTracker(tmp_path / "last")
    trackers = Trackers([first, FailsToClose(), last])
    trackers.log(1, {LOSS: 1.0})
    with pytest.raises(OSError, match="disk full"):
        trackers.close()
    for tracker in (first, last):
        with pytest.raises(ValueError, match="closed file"):
            tracker.log(2, {LOSS: 1.0})
    assert steps(tmp_path / "first") == steps(tmp_path / "last") == [1]


def test_importing_loads_no_sink():
    code = "import sys, quantum_hybrid.run.tracking; print({'torch', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- TensorBoard -----------------------------------------------------------------------------


def events(directory: Path) -> list[Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(directory)).Reload().Scalars(LOSS)


def scalars(directory: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(directory)]


def test_tensorboard_reads_the_scalars_back(tmp_path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(1, {LOSS: 4.5, "train/alpha_value": 0.5})
    tracker.log(2, {LOSS: 4.25})
    tracker.close()
    tracker.close()
    assert scalars(tmp_path) == [(1, 4.5), (2, 4.25)]


def test_tensorboard_shows_a_resumed_run_as_its_record_has_it(metrics_file, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("events")
    interrupted = TensorBoardTracker(tmp_path)
    for step in (0, 1, 5, 6):
        interrupted.log(step, {LOSS: -1.0})
    interrupted.close()
    rows = read_metrics(metrics_file)
    resumed = TensorBoardTracker(tmp_path)
    replay(rows, resumed)
    resumed.log(6, {LOSS: 40.0})
    resumed.close()
    assert scalars(tmp_path) == [*((step, 6.0 - step) for step in range(1, 6)), (6, 40.0)]
    assert events(tmp_path)[2].wall_time == pytest.approx(rows[2]["time_s"], abs=1e-3)


# --- Weights & Biases ------------------------------------------------------------------------


@pytest.fixture
def no_login(tmp_path, monkeypatch):
    """A machine without a login, whatever the real one has."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home" / "config"))
    for name in ("exit", "excepthook"):  # Restored after the test: wandb replaces them.
        monkeypatch.setattr(sys, name, getattr(sys, name))


class Announcements(list[str]):
    def __call__(self, message: str) -> None:
        self.append(message)


def start(run_dir: Path, announce: Announcements, run_id: str = "run-a") -> WandbTracker:
    return WandbTracker(
        project="atropos-environments_hack0_env_quant",
        name="first run",
        group="a group",
        run_dir=run_dir,
        run_id=run_id,
        config={"seed": 0, "circuit": {"n_qubits": 8}},
        announce=announce,
    )


def wandb_processes() -> list[str]:
    """Names of wandb's processes among this process's children, including zombies."""
    return [name for child in psutil.Process().children() if "wandb" in (name := child.name())]


@pytest.mark.usefixtures("no_login")
def test_wandb_without_a_login_keeps_everything_below_the_run_directory(tmp_path):
    run_dir, announce = tmp_path / "run", Announcements()
    environment, exit_before, hook_before = dict(os.environ), sys.exit, sys.excepthook
    tracker = start(run_dir, announce)
    assert (tracker.mode, tracker.url) == ("offline", None)
    assert tracker.directory is not None
    assert tracker.directory.parent == run_dir / "wandb"
    tracker.log(1, {LOSS: 4.5})
    tracker.log(1, {"eval/quantum_ablation": 0.25})
    tracker.log(2, {LOSS: 4.25})
    assert wandb_processes(), "the check below would see it"
    tracker.close()
    tracker.close()
    assert history(tracker.directory) == [{LOSS: 4.5, "eval/quantum_ablation": 0.25}, {LOSS: 4.25}]
    assert wandb_processes() == []
    assert (dict(os.environ), sys.exit, sys.excepthook) == (environment, exit_before, hook_before)
    assert not (tmp_path / "home").exists()
    assert announce == []


@pytest.mark.usefixtures("no_login")
def test_wandb_records_no_secret_no_command_line_and_no_host(tmp_path, monkeypatch):
    import platform

    monkeypatch.setenv("ATROPOS_HERMES_API_KEY", "sk-secret-xyz")
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "sk-argument-xyz"])
    tracker = start(tmp_path / "run", Announcements())
    tracker.log(1, {LOSS: 4.5})
    tracker.close()
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(b"n_qubits" in path.read_bytes() for path in written), "the config is recorded"
    for path in written:
        content = path.read_bytes()
        # A name of two letters stands in any binary file.
        host = [platform.node()] if len(platform.node()) > 5 else []
        for word in ("sk-secret-xyz", "sk-argument-xyz", "train.py", *host):
            assert word.encode() not in content, f"{word} in {path.name}"
    assert {path.suffix for path in written} == {".log", ".wandb"}


@pytest.mark.usefixtures("no_login")
def test_wandb_refuses_a_number_that_is_not_finite(tmp_path):
    tracker = start(tmp_path, Announcements())
    with pytest.raises(TrainingError, match=LOSS):
        tracker.log(1, {LOSS: math.nan})
    tracker.close()


@pytest.mark.usefixtures("no_login")
def test_a_resumed_wandb_run_continues_under_its_id(tmp_path, metrics_file):
    for step in (6, 7):
        tracker = start(tmp_path, Announcements())
        replay(read_metrics(metrics_file), tracker)
        tracker.log(step, {LOSS: 4.5})
        tracker.close()
        assert tracker.directory is not None
        assert [path.name for path in tracker.directory.glob("*.wandb")] == ["run-run-a.wandb"]
        assert history(tracker.directory) == [
            *({LOSS: 6.0 - step} for step in range(1, 6)),
            {LOSS: 4.5},
        ]


@pytest.mark.usefixtures("no_login")
def test_disabled_writes_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = start(tmp_path / "run", Announcements())
    assert tracker.mode == "disabled"
    tracker.log(1, {LOSS: 4.5})
    tracker.close()
    assert not (tmp_path / "run").exists()
    assert wandb_processes() == []


@pytest.mark.usefixtures("no_login")
def test_an_unknown_mode_is_a_usage_error(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UsageError, match="WANDB_MODE is 'onlin'"):
        start(tmp_path, Announcements())


@pytest.mark.usefixtures("no_login")
def test_online_without_a_login_goes_offline_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    announce = Announcements()
    tracker = start(tmp_path, announce)
    tracker.close()
    assert tracker.mode == "offline"
    (message,) = announce
    assert "wandb login" in message
    assert f"wandb sync {tracker.directory}" in message


class Refuses(BaseHTTPRequestHandler):
    """A service that refuses every key."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.end_headers()

    def log_message(self, format, *args):
        pass


@pytest.mark.usefixtures("no_login")
def test_a_refused_key_goes_offline_and_is_written_nowhere(tmp_path, monkeypatch):
    key = "0123456789abcdef0123456789abcdef01234567"
    announce = Announcements()
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", key)
        tracker = start(tmp_path / "run", announce)
        tracker.log(1, {LOSS: 4.5})
        tracker.close()
        server.shutdown()
        thread.join()
    assert tracker.mode == "offline"
    (message,) = announce
    assert "wandb sync" in message
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in files)
    assert key not in message


@pytest.mark.usefixtures("no_login")
def test_a_service_that_does_not_answer_goes_offline(tmp_path, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        port = server.server_port
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    announce = Announcements()
    tracker = start(tmp_path / "run", announce)
    tracker.log(1, {LOSS: 4.5})
    tracker.close()
    assert tracker.mode == "offline"
    assert len(announce) == 1
    assert tracker.directory is not None
    assert history(tracker.directory) == [{LOSS: 4.5}]
    assert wandb_processes() == []


@pytest.mark.usefixtures("no_login")
def test_a_run_of_another_part_of_the_process_stays_open(tmp_path):
    import wandb

    quiet = wandb.Settings(silent=True, console="off")
    other = wandb.init(mode="offline", dir=tmp_path, settings=quiet)
    tracker = start(tmp_path / "run", Announcements())
    tracker.log(1, {LOSS: 4.5})
    tracker.close()
    assert wandb.run is other
    other.log({"reward": 1.0}, step=1)
    other.finish()
    wandb.teardown()
    assert history(Path(other.settings.sync_dir)) == [{"reward": 1.0}]


KILLED = """
import sys
from pathlib import Path
import psutil
from quantum_hybrid.run.tracking import WandbTracker

tracker = WandbTracker(project="p", name="n", run_dir=Path(sys.argv[1]), run_id="a", config={},
                       announce=lambda message: print("said:", message))
(child,) = psutil.Process().children()
child.kill()
child.wait()
for step in range(50):
    tracker.log(step, {"train/hybrid_loss": 4.5})
tracker.close()
print("trained to the end")
"""


@pytest.mark.usefixtures("no_login")
def test_a_killed_wandb_process_does_not_end_the_training(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    said, end = done.stdout.splitlines()
    assert said.startswith("said: Weights & Biases stopped working")
    assert end == "trained to the end"
    assert "Traceback" not in done.stderr
