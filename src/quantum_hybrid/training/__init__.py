"""Train the student on the teacher's answers: steps, objective, optimiser, checkpoints."""

from quantum_hybrid.training.checkpoint import (
    Progress,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
    tidy_checkpoints,
)
from quantum_hybrid.training.learner import Learner, follow
from quantum_hybrid.training.objective import Losses, three_part_loss
from quantum_hybrid.training.optimizer import build_optimizer, set_learning_rates, trainable_parts
from quantum_hybrid.training.step import Objective, StepResult, check_gradients, training_step

__all__ = [
    "Learner",
    "Losses",
    "Objective",
    "Progress",
    "StepResult",
    "build_optimizer",
    "check_gradients",
    "follow",
    "has_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "set_learning_rates",
    "three_part_loss",
    "tidy_checkpoints",
    "trainable_parts",
    "training_step",
]
