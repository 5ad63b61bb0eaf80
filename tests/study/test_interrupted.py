"""Whole commands in processes of their own: killed and resumed, and divided into shards."""

from __future__ import annotations

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


def killed_when(file: Path, sent: int, *arguments: str | Path) -> tuple[int, str]:
    """Start the command, send it the signal when the file is there; status and errors."""
    with subprocess.Popen(
        command(Path(), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        children = psutil.Process(process.pid)
        while not file.exists():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise AssertionError(process.communicate())
        workers = children.children(recursive=True)
        process.send_signal(sent)
        _, errors = process.communicate()
        psutil.wait_procs(workers, timeout=30)
        assert not [worker for worker in workers if worker.is_running()]
    return process.returncode, errors


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_bits(small_study, plan_file, tmp_path) -> None:
    study = tmp_path / "study"
    flags = ("--plan", plan_file, "--study-dir", study)
    status, _ = killed_when(study / "tuning/beside.json", signal.SIGKILL, *flags)
    assert status == -signal.SIGKILL
    status, errors = killed_when(study / "fits/beside-0.safetensors", signal.SIGINT, *flags)
    assert status == 130, errors
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
