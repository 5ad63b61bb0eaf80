"""How many cores this process may use: its CPU affinity, and the CPU quotas of its control groups.

A batch system sets the affinity. `docker --cpus`, Kubernetes and systemd set a quota: so much
processor time in each period, on however many cores. It is in `cpu.max` (cgroup v2) or in
`cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1) of the process's group or of one above it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Cores that can be kept busy all the time; at least 1.

    `membership` names the process's control groups, `cgroups` is where they are mounted.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    whole = [int(quota) for quota in map(quota_in_cores, _settings(cgroups, membership)) if quota]
    return max(1, min([cores, *whole]))


def half_of_the_cores() -> int:
    """Threads for work that shares its cores with as much other work; at least 1.

    More threads than free cores wait for each other: beside one busy process, `evaluate` with
    two threads on two cores took three times as long as with one (docs/log.md).
    """
    return max(1, usable_cores() // 2)


def quota_in_cores(text: str) -> float | None:
    """The quota over the period, both in microseconds as in `200000 100000`.

    None where there is no limit (`max` in v2, -1 in v1), and for anything else.
    """
    quota, _, period = text.strip().partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0):
        return None
    return int(quota) / int(period)


def _settings(cgroups: Path, membership: Path) -> Iterator[str]:
    """Quota and period of each group that this process is in, and of those above it.

    A container may see its own group as the root, under a name that only its host knows.
    """
    for line in _read(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        names = [name for name in group.split("/") if name not in ("", "..")]
        for depth in range(len(names) + 1):
            if not controllers:
                yield _read(cgroups.joinpath(*names[:depth], "cpu.max"))
            elif "cpu" in controllers.split(","):
                folder = cgroups.joinpath("cpu", *names[:depth])
                quota, period = (_read(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
                yield f"{quota.strip()} {period.strip()}"


def _read(file: Path) -> str:
    """Empty where there is no such file, as on a system without control groups."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
