"""The command itself, and the environments that it makes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import environment

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.circuit"]


def test_interrupted_it_leaves_no_process_behind():
    command = [*COMMAND, "--peers", "", "--sizes", "8,3,1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=-1) as run:
        assert run.stdout is not None
        while not run.stdout.readline().startswith(b"qubits"):
            pass
        children = psutil.Process(run.pid).children()
        while not children:
            children = psutil.Process(run.pid).children()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate()
    assert run.returncode == 130
    assert errors.decode().splitlines()[-1] == "stopped"
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--peers=qiskit", "'qiskit'; allowed: pennylane"), ("--sizes=9,9,9", "'9,9,9'; allowed: 8,")],
)
def test_unknown_names_are_refused(flag, message):
    done = subprocess.run([*COMMAND, flag], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_peer_that_does_not_install_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "broken.txt").write_text("==1\n", encoding="utf-8")
    monkeypatch.setattr(environment, "PEERS", tmp_path)
    monkeypatch.setattr(environment, "HOME", tmp_path / "home")
    with pytest.raises(
        environment.InstallFailed, match=r"does not install: ERROR: Invalid req.*'==1'"
    ):
        environment.prepare("broken")


def test_a_cuda_build_is_refused(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    environment.refuse_cuda(tmp_path)
    (packages / "nvidia_cublas-13.0.dist-info").mkdir()
    with pytest.raises(environment.InstallFailed, match="nvidia_cublas, a CUDA build"):
        environment.refuse_cuda(tmp_path)
