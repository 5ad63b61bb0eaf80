"""Start several processes as `torchrun` does on one machine; a test helper."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def launch(rank: int, size: int, port: int) -> dict[str, str]:
    """The variables that `torchrun` sets for a process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def launch_environment(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment of one of several processes with one thread each."""
    return os.environ | {"OMP_THREAD_LIMIT": "1"} | launch(rank, size, port)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_together(size: int, *command: str) -> list[str]:
    """Run the processes and return their outputs; all must exit with status 0."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            env=launch_environment(rank, size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * size, "\n".join(printed)
    return printed
