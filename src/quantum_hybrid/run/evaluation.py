"""Held-out metrics of a run's last checkpoint, on the run's own held-out answers.

The run is only read: no teacher and no cache of answers is needed, and a run in progress or on a
read-only medium can be evaluated too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from transformers.utils import logging as transformers_logging

from quantum_hybrid.backbone import prepare_embedded
from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.durable import write_bytes, write_json
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes.cores import half_of_the_cores
from quantum_hybrid.run.directory import read_held_out
from quantum_hybrid.run.plan import existing_run, recorded
from quantum_hybrid.training import Learner, has_checkpoint

TASK = "atropos|quantum_hybrid_eval|0"


def evaluate_run(
    run: str, announce: Callable[[str], None], results: Path | None = None
) -> dict[str, float]:
    """All held-out metrics of the run's last checkpoint; also written to the folder `results`.

    Raises `UsageError` if there is no run, the run has no checkpoint, or `results` cannot be
    written.
    """
    path = existing_run(run)
    plan = recorded(path)
    if results is not None and results.resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{results}: lies in the run, which is only read; name another folder")
    if not has_checkpoint(path / "checkpoints"):
        raise _no_checkpoint(run)
    if results is not None:
        _make_folder(results)
    held_out = read_held_out(path)
    transformers_logging.disable_progress_bar()
    if plan.config.base_model_name == EMBEDDED:
        prepare_embedded(announce)
    started = time.time()
    # As many as beside the embedded teacher, so the figures of such a run are its own to the bit.
    torch.set_num_threads(half_of_the_cores())
    announce(f"evaluating {path} on its {len(held_out)} held-out answers")
    learner = Learner(plan.config, plan.prompts.calibration(plan.config.seed), resumes=True)
    progress = learner.load_checkpoint(path / "checkpoints", announce)
    if progress is None:  # It was removed just now.
        raise _no_checkpoint(run)
    metrics = learner.evaluate([learner.encoder.example(*pair) for pair in held_out])
    announce(f"{path}, checkpoint of step {progress.step}, {len(held_out)} held-out answers")
    announce("\n".join(f"{name:28}{value:12.4f}" for name, value in metrics.items()))
    if results is not None:
        content = _in_atropos_layout(metrics, f"{path}, step {progress.step}", started)
        write_json(results / "metrics.json", content)
        config = {"env": plan.config.model_dump(), "openai": plan.server.model_dump()}
        text = yaml.safe_dump(config, sort_keys=False)
        write_bytes(results / "evaluate_config.yaml", text.encode("utf-8"))
        announce(f"results   {results}")
    return metrics


def _no_checkpoint(run: str) -> UsageError:
    return UsageError(
        f"`run_dir` {run!r}: holds no checkpoint, so there is no trained student to evaluate"
    )


def _make_folder(results: Path) -> None:
    """Raises `UsageError` if nothing can be written there."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise UsageError(f"{results}: cannot be written: {error.strerror}") from error


def _in_atropos_layout(metrics: dict[str, float], model: str, started: float) -> dict:
    """The layout in which atroposlib's `BaseEnv.evaluate_log` writes metrics."""
    return {
        "config_general": {
            "model_name": model,
            "total_evaluation_time_seconds": str(time.time() - started),
            "generation_parameters": {},
        },
        "results": {TASK: metrics, "all": metrics},
    }
