"""Whole commands in processes of their own: killed and resumed, and divided into shards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from one_process import hashes


def command(plan_file: Path, *arguments: str | Path) -> list[str]:
    program = "from quantum_hybrid.cli import main; raise SystemExit(main())"
    return [sys.executable, "-c", program, "study", *map(str, arguments)]


def finished(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(Path(), *arguments), capture_output=True, text=True, encoding="utf-8", check=False
    )


def killed(sent: int, said: str, *arguments: str | Path, file: Path | None = None) -> int:
    """Start the command, and send it the signal once it has said that and the file is there.

    Gives its status.
    """
    with subprocess.Popen(
        command(Path(), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(said in line for line in process.stdout), process.wait()
        while file is not None and not file.exists():
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(process.wait(0.05))
        workers = psutil.Process(process.pid).children(recursive=True)
        # Ctrl-C reaches all processes of a terminal; kill, one.
        (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
        _, errors = process.communicate()
        assert "Traceback" not in errors, errors
        psutil.wait_procs(workers, timeout=30)
        assert not [worker for worker in workers if worker.is_running()]
    return process.returncode


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_bits(small_study, plan_file, tmp_path) -> None:
    study = tmp_path / "study"
    flags = ("--plan", plan_file, "--study-dir", study)
    tasks, tuned = "tuning and training", study / "tuning/beside.json"
    assert killed(signal.SIGKILL, tasks, *flags, file=tuned) == -signal.SIGKILL
    assert killed(signal.SIGINT, tasks, *flags) == 130
    page = (study / "study.html").read_text(encoding="utf-8")
    assert "judge beside, seed 0" in page
    ended = finished("--study-dir", study)
    assert ended.returncode == 0, ended.stderr
    assert "ring is" in ended.stdout
    assert hashes(study) == hashes(small_study)


@pytest.mark.slow
def test_shards_and_their_merge_give_the_same_bits(small_study, plan_file, tmp_path) -> None:
    study = tmp_path / "study"
    flags = ("--plan", plan_file, "--study-dir", study)
    started = [
        subprocess.Popen(
            command(plan_file, *flags, "--shard", f"{k}/2"), stdout=subprocess.PIPE, text=True
        )
        for k in (1, 2)
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    assert all("--merge" in text for text in printed)
    assert finished("--study-dir", study, "--merge").returncode == 0
    assert hashes(study) == hashes(small_study)
