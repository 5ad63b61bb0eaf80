"""One of several processes that train a learner; a program that tests start.

    python tests/ranks_worker.py BASE_MODEL GROUPS RESULTS      with torchrun's variables

GROUPS holds pickled groups of examples. The first process pickles to RESULTS the results of
training on them for each of `CONFIGS`.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from quantum_hybrid.config import RunConfig
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.text.prompts import built_in_prompts
from quantum_hybrid.training import Learner, follow

CONFIGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, top-k": {"distill_top_logprobs": 4, "distill_weight": 2.0, "distill_temperature": 1.5},
    "lora, uld": {"distill_top_logprobs": 4, "distill_loss": "uld", "distill_weight": 5.0},
    "full, probability": {"train_backbone": "full", "mixing": "probability"},
    "frozen": {"train_backbone": "none"},
}


def trained(base_model: str, name: str, groups: list[Any], ranks: Ranks = ALONE) -> dict[str, Any]:
    """Figures of every step and of an evaluation, and the parameters."""
    given: dict[str, Any] = {"base_model_name": base_model, "total_steps": 20, "lora_rank": 4}
    config = RunConfig(**given, **CONFIGS[name])
    learner = Learner(config, built_in_prompts().calibration(config.seed), ranks)
    steps = [learner.train_on(group, step) for step, group in enumerate(groups)]
    return {
        "steps": steps,
        "evaluation": learner.evaluate([example for group in groups for example in group]),
        "parameters": {n: p.detach().clone() for n, p in learner.model.named_parameters()},
    }


def _main(base_model: str, groups: str, results: str) -> None:
    torch.set_num_threads(1)
    with Ranks.joined(Launch.of(os.environ)) as ranks:
        if not ranks.is_first:
            for _ in CONFIGS:
                follow(ranks)
            follow(ranks)
            return
        found = {}
        for name in CONFIGS:
            found[name] = trained(base_model, name, pickle.loads(Path(groups).read_bytes()), ranks)
            ranks.tell("end")
        Path(results).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
