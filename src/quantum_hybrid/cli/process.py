"""`process`, the main job: ask the teacher, train the student, evaluate on held-out answers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantum_hybrid.cli.command import command
from quantum_hybrid.cli.flags import add_settings_flags
from quantum_hybrid.cli.given import Given
from quantum_hybrid.errors import UsageError
from quantum_hybrid.output import say
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.report.groups_page import groups_page_path
from quantum_hybrid.report.summary import summary_lines

if TYPE_CHECKING:
    from quantum_hybrid.run.directory import RunDirectory

HELP = "the main job: ask the teacher, train the student, evaluate it on held-out answers"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a run."""
    add_settings_flags(parser)


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Check the settings, lock the run directory, then import torch and run."""
    from quantum_hybrid.cli.plan import plan_of
    from quantum_hybrid.run.directory import RunDirectory

    plan = plan_of(Given.of(namespace))
    if plan.config.group_size < launch.size:
        raise UsageError(
            f"`group_size` {plan.config.group_size}: must be at least the number of processes, "
            f"which is {launch.size}"
        )
    from quantum_hybrid.processes.ranks import Ranks

    # The other processes wait for the first one even if the run is complete.
    with RunDirectory.open(plan) as run, Ranks.joined(launch) as ranks:
        if run.is_complete:
            lines = [f"{run.path} is complete; nothing was done.", ""]
            say("\n".join([*lines, *summary_lines(run.read_summary())]))
        else:
            from quantum_hybrid.run.loop import run_process

            run_process(run, ranks)
    say("\n".join(where_things_are(run, launch)))
    return 0


def where_things_are(run: RunDirectory, launch: Launch) -> list[str]:
    """Lines that list the run's artefacts and suggest what to do next."""
    path = run.path
    return [
        "",
        f"student   {path / 'student'}  (HybridForCausalLM.from_pretrained)",
        f"curves    {path / 'curves.png'}",
        f"answers   {groups_page_path(run.groups_path)}",
        f"numbers   {path / 'metrics.jsonl'}; tensorboard --logdir {path / 'tensorboard'}",
        f"next      another seed: {command(launch.size, 'process', '--env.seed', '1')}",
        f"          your own teacher: --openai.* in {command(1, 'process', '--help')}",
    ]
