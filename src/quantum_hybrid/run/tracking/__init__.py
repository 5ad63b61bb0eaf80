"""Where a run's numbers go: `metrics.jsonl`, TensorBoard and Weights & Biases, one interface.

`metrics.jsonl` is the record; the other two are views of the same numbers, which a resumed run
fills anew from it, as a killed one took along what they had not yet written.
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
