"""A study on a real Ray cluster of this machine: three workers, one of them killed."""

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

pytest.importorskip("ray", reason="needs the extra ray")


def study(*arguments: str | Path) -> list[str]:
    program = "from quantum_hybrid.cli import main; raise SystemExit(main())"
    return [sys.executable, "-c", program, "study", *map(str, arguments)]


@pytest.fixture(scope="module")
def address():
    """Address of a cluster with three nodes of one worker each."""
    from ray.cluster_utils import Cluster

    # As on a cluster of machines: a worker may take its processor's time, not this one's memory.
    options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def busy_workers() -> list[psutil.Process]:
    """The cluster's processes that are at work on a task."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if line.startswith("ray::_work"):
            found.append(process)
    return found


@pytest.mark.slow
def test_a_study_on_a_cluster_has_the_bits_of_a_local_one_though_a_worker_is_killed(
    address, small_study, plan_file, tmp_path
) -> None:
    remote = tmp_path / "remote"
    flags = ("--plan", plan_file, "--study-dir")
    with subprocess.Popen(
        study(*flags, remote, "--ray", address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while not (workers := busy_workers()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                raise AssertionError(process.communicate()[0])
        os.kill(workers[0].pid, signal.SIGKILL)
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert hashes(remote) == hashes(small_study)


def test_an_address_that_does_not_answer_is_one_line(plan_file, tmp_path) -> None:
    ended = subprocess.run(
        study("--plan", plan_file, "--study-dir", tmp_path / "s", "--ray", "127.0.0.1:1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "--ray '127.0.0.1:1': no Ray cluster answers there" in ended.stderr
    assert not (tmp_path / "s").exists()
