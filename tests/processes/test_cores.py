"""The cores that a process may use, by affinity and by the quotas of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantum_hybrid.processes.cores import quota_in_cores, usable_cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2.0),
        ("150000 100000", 1.5),
        ("5000 100000", 0.05),
        ("max 100000\n", None),
        ("-1 100000", None),
        ("0 100000", None),
        ("100000 0", None),
        ("100000", None),
        ("² 100000", None),
        ("nan inf", None),
        ("", None),
    ],
)
def test_a_quota_is_so_many_cores(text, cores) -> None:
    assert quota_in_cores(text) == cores


@pytest.fixture
def cores_with(tmp_path, monkeypatch):
    """The cores of a process in these groups, of 6 by its affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(6)}, raising=False)

    def cores(membership: str, files: dict[str, str]) -> int:
        for name, content in files.items():
            file: Path = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        (tmp_path / "membership").write_text(membership, encoding="utf-8")
        return usable_cores(tmp_path / "cgroup", tmp_path / "membership")

    return cores


V1 = "9:memory:/x\n3:cpu,cpuacct:/docker/abc\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),  # no thread is ever held up
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "900000 100000\n"}, 6),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 6),
        ("0::/\n", {}, 6),
        ("", {}, 6),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "100000 50000\n"}, 2),
        ("0::/../b:c\n", {"b:c/cpu.max": "300000 100000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        (
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "100000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
    ids=str,
)
def test_the_smallest_limit_counts(cores_with, membership, files, expected) -> None:
    assert cores_with(membership, files) == expected


def test_without_control_groups_it_is_the_affinity(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert usable_cores(tmp_path / "absent", tmp_path / "absent too") == 3
