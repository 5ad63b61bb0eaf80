"""The environment of a peer: a virtual environment of its own, made on first use.

``benchmarks/peers/NAME.txt`` pins what is in it; it is made again when that file changes. No peer
is a dependency of the project.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).with_name("peers")
HOME = Path(__file__).with_name(".peers")
INSTALL_SECONDS = 600


class InstallFailed(Exception):
    """An environment cannot be made; the message is the reason, on one line."""


def prepare(name: str) -> str:
    """Path of the Python of the peer's environment, made if need be.

    Raises:
        InstallFailed: pip failed, took too long, or brought a CUDA build.
    """
    folder, requirements = HOME / name, PEERS / f"{name}.txt"
    python, made_from = folder / "bin" / "python", folder / "made-from.txt"
    pins = requirements.read_text(encoding="utf-8")
    if python.exists() and made_from.exists() and made_from.read_text(encoding="utf-8") == pins:
        return str(python)
    print(f"making the environment of {name}, once", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _call([*pip, "install", "--requirement", str(requirements)])
    refuse_cuda(folder)
    made_from.write_text(pins, encoding="utf-8")
    return str(python)


def refuse_cuda(folder: Path) -> None:
    """Raise InstallFailed if the environment holds a package of NVIDIA's: CPUs are compared."""
    found = sorted(path.name.split("-")[0] for path in folder.glob("lib/*/site-packages/nvidia*"))
    if found:
        raise InstallFailed(
            f"pip brought {found[0]}, a CUDA build; point pip at torch's CPU builds and try again"
        )


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"pip was not done after {INSTALL_SECONDS} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in errors if line.startswith("ERROR")] or errors or ["no reason"]
        raise InstallFailed(f"does not install: {errors[-1][:160]}")
