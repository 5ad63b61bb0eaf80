"""Shared fixtures: a complete run, without the time that one takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.report.summary import summarise
from quantum_hybrid.run.directory import RunDirectory
from quantum_hybrid.run.plan import RunPlan


@pytest.fixture
def complete(tmp_path) -> Path:
    """Those files of a complete run of seed 5 that its summary needs."""
    config = RunConfig(run_dir=str(tmp_path / "run"), seed=5, train_backbone="none")
    plan = RunPlan(tmp_path / "run", config, ServerConfig(), resumes=False)
    names = ("tokens", "hybrid_loss", "quantum_ablation", "hybrid_minus_classical")
    figures = {"step": 1, "model/alpha": 0.5} | {f"eval/{name}": 0.25 for name in names}
    with RunDirectory.open(plan) as run:
        (run.path / "summary.json").write_text(json.dumps(summarise([figures])), encoding="utf-8")
    return tmp_path / "run"
