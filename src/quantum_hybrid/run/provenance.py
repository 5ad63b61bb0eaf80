"""Provenance of a run: settings, command, commit, package versions and machine."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quantum_hybrid.config import RunConfig, ServerConfig, config_hash
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.text import PromptsFile

REPORTED_PACKAGES = [
    "quantum-hybrid-lm",
    "torch",
    "transformers",
    "peft",
    "pennylane",
    "atroposlib",
    "xllamacpp",
    "httpx2",
    "numpy",
]


def description(
    config: RunConfig,
    server: ServerConfig,
    trainer: str | None = None,
    prompts: PromptsFile | None = None,
) -> dict[str, Any]:
    """The content of config.json for a new run.

    `trainer` is the Atropos API that it serves, `prompts` the file that its prompts come from.
    """
    return {
        "env": config.model_dump(),
        "openai": server.model_dump(),
        "trainer": trainer,
        "prompts": None if prompts is None else prompts.as_fields(),
        "run_id": secrets.token_hex(6),
        "config_hash": config_hash(config),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "machine": {"system": platform.platform(), "cpu_count": os.cpu_count()},
        "processes": Launch.of(os.environ).size,
        "versions": installed_versions(REPORTED_PACKAGES),
    }


def git_commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """Commit of the running code, with `+` appended if tracked files were changed; else None.

    None also if the package lies inside a repository that does not track it, as an installed
    package may.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "--", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD")
        changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    # A git hook sets these variables. They would override -C and name the hook's repository.
    hook = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in hook}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def installed_versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Package -> its version; None if it is not installed."""
    return {name: _installed_version(name) for name in packages}


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
