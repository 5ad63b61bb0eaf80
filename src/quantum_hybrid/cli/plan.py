"""The plan of a run from the values that the user set, checked as far as possible beforehand."""

from __future__ import annotations

import os

from quantum_hybrid.cli.given import Given
from quantum_hybrid.config import RunConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.paths import writable_cache_directory
from quantum_hybrid.run.plan import RunPlan, resolve


def plan_of(given: Given) -> RunPlan:
    """The plan of the run; nothing is written.

    Raises `UsageError`. Only the check of the circuit's engine imports torch, and it comes last.
    """
    with given.naming_the_file():
        plan = resolve(given.ours["env"], given.ours["openai"])
        _check(plan)
    return plan


def _check(plan: RunPlan) -> None:
    from quantum_hybrid.model_files import find_base_model

    config = plan.config
    find_base_model(config.base_model_name)
    plan.prompts.held_out(config.eval_split, config.eval_prompts, config.seed)
    plan.prompts.calibration(config.seed)
    from quantum_hybrid.teacher import choose_teacher

    choose_teacher(plan.server, os.environ, config.max_token_length)
    _check_circuit(config)
    writable_cache_directory()


def _check_circuit(config: RunConfig) -> None:
    """Raise `UsageError` if the engine cannot run the circuit: the layer's constructor checks."""
    from quantum_hybrid.circuit import QuantumLayer

    try:
        QuantumLayer(
            config.n_qubits, config.n_layers, config.entangler, config.reupload, config.engine
        )
    except ValueError as error:
        raise UsageError(f"`engine` {config.engine}: {error}") from error
