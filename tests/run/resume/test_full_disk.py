"""A full disk or output, or a file at its size limit: one line of error, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forked_runs import ForkServer
from tiny_runs import Runs, is_one_line, remains, said

DISK_KIB = 2048


def test_what_cannot_be_written_is_one_line_and_costs_nothing(
    runs, unbroken, tmp_path, too_large
) -> None:
    run = tmp_path / "run"
    assert runs.status(run, largest_file=too_large, killed_if_larger=False) == 1
    assert is_one_line(run), said(run)
    assert "cannot be written" in said(run)
    assert not [*run.rglob(".*.tmp")]
    runs.finish(run)
    assert remains(run) == remains(unbroken)


@pytest.mark.parametrize("cause", ["full", "nobody reads"])
def test_an_output_that_cannot_be_written_is_one_line_and_costs_nothing(
    runs, unbroken, tmp_path, cause
) -> None:
    run, errors, pipe = tmp_path / "run", tmp_path / "errors", tmp_path / "pipe"
    if cause == "full":
        assert runs.status(run, output="/dev/full", errors=str(errors)) == 1
        reason = "standard output cannot be written: No space left on device"
    else:
        os.mkfifo(pipe)
        pid = runs.start(run, output=str(pipe), errors=str(errors))
        with pipe.open(encoding="utf-8") as reader:
            reader.readline()
        assert runs.forks.wait(pid) == 128 + signal.SIGPIPE
        reason = "nobody reads the output any more"
    again = f"go on with: python atropos.py process --env.run_dir {run}"
    assert errors.read_text(encoding="utf-8") == f"error: {reason}; {again}\n"
    assert f"error: {reason}\n" in (run / "log.txt").read_text(encoding="utf-8")
    runs.finish(run)
    assert remains(run) == remains(unbroken)


@pytest.fixture(scope="module")
def small_disk(runs, small_llama, tmp_path_factory) -> Iterator[tuple[Runs, Path, Path]]:
    """A disk of 2 MiB for the runs: its path for them, and its path for this process."""
    disk = tmp_path_factory.mktemp("disk")
    mount = f'mount -t tmpfs -o size={DISK_KIB}k tmpfs "$0" && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(disk))
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets no test mount a disk")
    forks = ForkServer(small_llama, prefix)
    yield replace(runs, forks=forks), disk, Path(f"/proc/{forks.pid}/root{disk}")
    forks.close()


@pytest.mark.slow
@pytest.mark.parametrize("free_kib", [0, 24, 200, 500])
def test_a_full_disk_is_one_line_and_costs_nothing(
    small_disk, unbroken, tmp_path, free_kib
) -> None:
    runs, inside, outside = small_disk
    filler, run, output = outside / "filler", inside / "run", str(tmp_path / "run.out")
    filler.write_bytes(bytes(1024 * (DISK_KIB - free_kib)))
    order = replace(runs.order(run), output=output)
    assert runs.forks.run(order) in (1, 2), said(tmp_path / "run")
    assert is_one_line(tmp_path / "run"), said(tmp_path / "run")
    assert "No space left on device" in said(tmp_path / "run")
    filler.unlink()
    assert runs.forks.run(order) == 0, said(tmp_path / "run")
    assert remains(outside / "run") == remains(unbroken)
    shutil.rmtree(outside / "run")


def test_nothing_is_asked_for_that_might_find_no_room(small_disk, teacher, tmp_path) -> None:
    runs, inside, _ = small_disk
    run = tmp_path / "run"
    assert runs.status(run, cache=inside / "cache") == 1
    assert is_one_line(run), said(run)
    assert "MiB are free on its disk, and 16 are needed before a request is sent" in said(run)
    assert teacher.asked == 0
