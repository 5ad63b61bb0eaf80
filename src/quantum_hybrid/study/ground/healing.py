"""The backbone of a study: pruned, healed once by its classical pathway alone, merged, frozen.

`process` trains both pathways together. Here the circuits take no part: a backbone that was healed
with them could favour them over their rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from quantum_hybrid.backbone import adapt, drop_layers, load_base_model, merge_adapters
from quantum_hybrid.errors import TrainingError, UsageError
from quantum_hybrid.model_files import find_base_model
from quantum_hybrid.student import HybridForCausalLM, answer_rows
from quantum_hybrid.student.initialisation import initialise_classical
from quantum_hybrid.study.parameters import read_parameters, write_parameters
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.text import Encoder, Example
from quantum_hybrid.training import build_optimizer, set_learning_rates
from quantum_hybrid.training.optimizer import clip_gradients

HEALING_UNITS = 4
"""Units of a step."""
STEPS_PER_LINE = 10
"""Number of steps between two lines of progress."""


def require_base_model(plan: StudyPlan) -> None:
    """Raise `UsageError` if there is no such model, before anything else takes time."""
    with _as_a_field_of_the_plan():
        find_base_model(plan.base_model_name)


@contextmanager
def _as_a_field_of_the_plan() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(f"plan: {error.without_backticks()}") from None


class Backbone:
    """The pruned backbone with its classical head."""

    def __init__(self, plan: StudyPlan) -> None:
        """As it is before healing. Raises `UsageError` for a model that cannot be used."""
        self._config = config = plan.student()
        transformers_logging.disable_progress_bar()
        with _as_a_field_of_the_plan():
            base = load_base_model(config.base_model_name, find_base_model(config.base_model_name))
            drop_layers(base.body, config.dropped_layers())
        self.encoder = Encoder(base.tokenizer)
        # A student, for its loading, its classical pathway and its optimiser; its circuits rest.
        self.student = HybridForCausalLM.from_base(base)
        self.student.requires_grad_(False)
        generator = torch.Generator().manual_seed(config.seed)
        initialise_classical(self.student.head.classical, generator)

    def heal(self, examples: Sequence[Example], announce: Callable[[str], None]) -> None:
        """Train adapters and the classical head on the examples.

        Raises `TrainingError` for a loss that is not finite.
        """
        student, config = self.student, self._config
        self.adapt(config.seed)
        optimizer = build_optimizer(student, config)
        order = schedule(
            len(examples), config.total_steps, torch.Generator().manual_seed(config.seed)
        )
        for step, numbers in enumerate(order):
            rows = answer_rows(student, [examples[i] for i in numbers])
            loss = F.cross_entropy(student.head.classical(rows.hidden), rows.targets)
            if not loss.isfinite():
                raise TrainingError(f"healing: the loss of step {step} is {loss.item()}")
            student.zero_grad(set_to_none=True)
            loss.backward()
            set_learning_rates(optimizer, config, step)
            clip_gradients(student, config.max_grad_norm)
            optimizer.step()
            if (step + 1) % STEPS_PER_LINE == 0:
                announce(f"healing   step {step + 1} of {config.total_steps}, loss {loss:.3f}")

    def write(self, file: Path) -> None:
        """Write what healing has trained, atomically."""
        write_parameters(file, self._trained())

    def read(self, file: Path) -> None:
        """Load what `write` has written. Raises `CheckpointError` for other content."""
        self.adapt(self._config.seed)
        read_parameters(file, self._trained(), "a healed backbone of this plan")

    def freeze(self) -> None:
        """Merge the adapters; nothing is trained any more."""
        self.student.backbone = merge_adapters(self.student.backbone)
        self.student.requires_grad_(False)

    def adapt(self, seed: int) -> None:
        """Give the body adapters drawn from the seed, and let the classical head learn."""
        body = cast(PreTrainedModel, self.student.backbone)
        self.student.backbone = adapt(body, "lora", self._config.lora_rank, seed)
        classical = self.student.head.classical
        classical.transform.requires_grad_(True)
        classical.log_scale.requires_grad_(True)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}


def schedule(n_examples: int, n_steps: int, generator: torch.Generator) -> list[list[int]]:
    """Numbers of the examples of each step: one random order after the other."""
    order: list[int] = []
    while len(order) < n_steps * HEALING_UNITS:
        order += torch.randperm(n_examples, generator=generator).tolist()
    return [order[i * HEALING_UNITS : (i + 1) * HEALING_UNITS] for i in range(n_steps)]
