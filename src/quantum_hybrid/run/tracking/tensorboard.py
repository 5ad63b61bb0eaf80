"""Metrics as TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantum_hybrid.run.tracking.tracker import finite


class TensorBoardTracker:
    """Writes scalars as TensorBoard event files: `tensorboard --logdir DIRECTORY`.

    Event files of an earlier process of the run are removed: TensorBoard orders files by their
    start in whole seconds, and would mix up two processes that started within one second.
    """

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for earlier in directory.glob("events.out.tfevents.*"):
            earlier.unlink()
        self._writer = SummaryWriter(str(directory), flush_secs=10)

    def log(self, step: int, metrics: Mapping[str, float], time_s: float | None = None) -> None:
        for name, value in finite(step, metrics).items():
            self._writer.add_scalar(name, value, step, walltime=time_s)

    def close(self) -> None:
        self._writer.close()
