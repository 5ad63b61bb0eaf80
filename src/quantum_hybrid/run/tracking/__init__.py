"""Trackers of a run's metrics: `metrics.jsonl`, TensorBoard and Weights & Biases.

`metrics.jsonl` is the record. The other two are views of it: a resumed run fills them again from
the record, because a killed run may not have flushed them.
"""

from quantum_hybrid.run.tracking.record import JsonlTracker, read_metrics, truncate_metrics
from quantum_hybrid.run.tracking.tensorboard import TensorBoardTracker
from quantum_hybrid.run.tracking.tracker import Tracker, Trackers, replay
from quantum_hybrid.run.tracking.wandb import WandbTracker

__all__ = [
    "JsonlTracker",
    "TensorBoardTracker",
    "Tracker",
    "Trackers",
    "WandbTracker",
    "read_metrics",
    "replay",
    "truncate_metrics",
]
