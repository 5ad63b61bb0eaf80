"""`serve`: send scored groups to a trainer through Atropos's API server."""

from __future__ import annotations

import argparse
from dataclasses import replace

from quantum_hybrid.cli.flags import add_atropos_flags, add_settings_flags
from quantum_hybrid.cli.given import Given
from quantum_hybrid.cli.process import where_things_are
from quantum_hybrid.output import say
from quantum_hybrid.processes.launch import Launch

HELP = "train as process does and send the scored groups to an Atropos trainer"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a run and Atropos's own."""
    add_settings_flags(parser)
    add_atropos_flags(parser)


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Check the settings, import atroposlib and torch, then lock the run directory and serve."""
    from quantum_hybrid.cli.plan import plan_of
    from quantum_hybrid.run.directory import RunDirectory
    from quantum_hybrid.run.plan import refuse_finished

    given = Given.of(namespace, with_atropos=True)
    plan = plan_of(given)
    refuse_finished(plan)
    from quantum_hybrid.atropos.api import check_api
    from quantum_hybrid.atropos.environment import serve_run, settings_of

    with given.naming_the_file():
        settings = settings_of(plan.config, given.atropos)
    check_api(settings)
    with RunDirectory.open(replace(plan, trainer=settings.rollout_server_url)) as run:
        serve_run(run, settings)
        say("\n".join(where_things_are(run, launch)))
    return 0
