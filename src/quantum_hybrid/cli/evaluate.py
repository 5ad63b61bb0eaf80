"""`evaluate`: held-out metrics of a run's last checkpoint."""

from __future__ import annotations

import argparse

from quantum_hybrid.cli.flags import add_atropos_flags, add_settings_flags
from quantum_hybrid.cli.given import Given
from quantum_hybrid.errors import UsageError
from quantum_hybrid.output import say
from quantum_hybrid.paths import user_path
from quantum_hybrid.processes.launch import Launch

HELP = "compute the held-out metrics of a run's last checkpoint"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a run and Atropos's own."""
    add_settings_flags(parser)
    add_atropos_flags(parser)


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Compare the flags with the run's settings before torch is imported, then evaluate."""
    from quantum_hybrid.run.plan import existing_run, resolve

    given = Given.of(namespace, with_atropos=True)
    run_dir = given.ours["env"].get("run_dir")
    if run_dir is None:
        raise UsageError("`run_dir`: must be given, the directory of a run to evaluate")
    with given.naming_the_file():
        existing_run(str(run_dir))
        resolve(given.ours["env"], given.ours["openai"])  # Raises for settings of another run.
    from quantum_hybrid.run.evaluation import evaluate_run

    named = given.atropos["env"].get("data_dir_to_save_evals")
    field = f"`data_dir_to_save_evals` {named!r}"
    evaluate_run(str(run_dir), say, None if named is None else user_path(str(named), field))
    return 0
