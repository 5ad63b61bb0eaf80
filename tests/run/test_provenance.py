"""The commit that a run records."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from quantum_hybrid.run.provenance import git_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository with one package, `ours`, committed."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").touch()
    git(tmp_path, "add", "ours")
    git(tmp_path, "commit", "--message", "one", "--no-gpg-sign")
    return tmp_path


def test_of_tracked_code_and_whether_it_was_changed(repository) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert git_commit(repository / "ours") == head
    (repository / "ours" / "__init__.py").write_text("changed", encoding="utf-8")
    assert git_commit(repository / "ours") == f"{head}+"


def test_of_code_installed_within_another_repository_none(repository) -> None:
    (repository / "installed").mkdir()
    (repository / "installed" / "__init__.py").touch()
    assert git_commit(repository / "installed") is None


def test_a_hook_of_another_repository_changes_nothing(repository, tmp_path, monkeypatch) -> None:
    git(tmp_path, "init", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert git_commit(repository / "ours") is not None
