"""The loop of `process`: training steps from the last checkpoint to the last step."""

from __future__ import annotations

import asyncio
from typing import Any

from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.run.directory import RunDirectory
from quantum_hybrid.run.job import Distillation
from quantum_hybrid.run.session import RunSession
from quantum_hybrid.run.stop import StopRequest


async def distil(job: Distillation, stop: StopRequest) -> None:
    """Train to the last step. A signal or a teacher error ends the loop between two steps."""
    await job.begin()
    while not job.is_done:
        await job.next_step(stop)


def run_process(run: RunDirectory, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Run a new or resumed run to its end and return its summary."""

    async def main() -> dict[str, Any]:
        async with RunSession(run, ranks) as session:
            if run.trainer is not None:
                session.console.line(
                    f"note      begun by serve: no more groups go to the trainer at {run.trainer}"
                )
            return await session.to_its_end(distil)

    return asyncio.run(main())
