"""The machine in words, without anything that tells which one it is."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.program import THREADS


def machine() -> dict[str, Any]:
    """Its processor, memory and system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads_used": THREADS,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
