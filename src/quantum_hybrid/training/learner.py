"""The student in training: model, tokenizer and optimiser, built from a run's configuration.

With several processes each has a learner of the same configuration. The first process's learner
broadcasts every call, and the others repeat it (`follow`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from quantum_hybrid.backbone import (
    FeatureStore,
    adapt,
    drop_layers,
    load_base_model,
    merge_adapters,
)
from quantum_hybrid.config import RunConfig
from quantum_hybrid.durable import whole_folder
from quantum_hybrid.errors import QuantumHybridError, TrainingError
from quantum_hybrid.evaluation import evaluate
from quantum_hybrid.model_files import find_base_model
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.student import Calibration, HybridForCausalLM, initialise_head
from quantum_hybrid.text.encoder import Encoder, Example
from quantum_hybrid.text.records import Prompt
from quantum_hybrid.training.checkpoint import (
    Progress,
    load_checkpoint,
    restore,
    save_checkpoint,
    training_state,
)
from quantum_hybrid.training.optimizer import build_optimizer
from quantum_hybrid.training.step import Objective, StepResult, check_gradients, training_step


class CalibrationTexts:
    """Training prompts as token rows, and the rows that the chat template does not fill.

    Tokens that begin or end all of the texts are the template's.
    """

    def __init__(self, texts: Sequence[list[int]]) -> None:
        self._texts = texts
        prefix = _common_prefix(texts)
        suffix = _common_prefix([text[::-1] for text in texts])
        self._rows = [slice(prefix, len(text) - suffix) for text in texts]

    def examples(self, count: int) -> list[Example]:
        """The first `count` texts as examples in which every token but the first is a target."""
        return [Example.of_text(text) for text in self._texts[:count]]

    @torch.no_grad()
    def hidden_rows(
        self, body: nn.Module, heed: Callable[[], None]
    ) -> Float[Tensor, "rows d_model"]:
        """Hidden states of a model body at the rows outside the template, all texts together.

        `heed` is called before each text; it may raise to stop.
        """
        hidden = []
        for text, rows in zip(self._texts, self._rows, strict=True):
            heed()
            output = body(input_ids=torch.tensor([text]), use_cache=False)
            hidden.append(output.last_hidden_state[0, rows])
        return torch.cat(hidden)


@torch.no_grad()
def _forget(head: nn.Module) -> None:
    """Fill the trained parameters with NaN, so that no figure can come from an unset one."""
    for parameter in head.parameters():
        if parameter.requires_grad:
            parameter.fill_(math.nan)


def _common_prefix(texts: Sequence[list[int]]) -> int:
    columns = enumerate(zip(*texts, strict=False))
    return next((i for i, column in columns if len(set(column)) > 1), min(map(len, texts)))


class Learner:
    """Model and optimiser. The same configuration and prompts build the same learner.

    The head is initialised on `calibration`, training prompts that come late in the schedule
    (`PromptSet.calibration`).

    Dropout is off: the result of a run depends on its configuration and the teacher's text only.

    One that `resumes` is for a checkpoint, which holds the whole head: it saves the calibration,
    most of the time that building takes, and its head is NaN until the checkpoint is loaded.
    `heed` is called often while the head is calibrated; it may raise to stop.
    """

    def __init__(
        self,
        config: RunConfig,
        calibration: Sequence[Prompt],
        ranks: Ranks = ALONE,
        *,
        resumes: bool = False,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.ranks = config, ranks
        ranks.tell("build", config, calibration, torch.get_num_threads(), resumes)
        with ranks.all_or_none():
            self._build(calibration, resumes, heed)
        self._objective = Objective(self.model, config, ranks)

    def _build(
        self, calibration: Sequence[Prompt], resumes: bool, heed: Callable[[], None]
    ) -> None:
        config = self.config
        base = load_base_model(config.base_model_name, find_base_model(config.base_model_name))
        self.tokenizer = base.tokenizer
        self.encoder = Encoder(base.tokenizer)
        texts = CalibrationTexts(list(map(self.encoder.prompt_tokens, calibration)))
        self._checked_on = texts.examples(config.group_size)
        if not resumes:
            with torch.no_grad():
                base_g = base.norm(texts.hidden_rows(base.body, heed))
        drop_layers(base.body, config.dropped_layers())
        self.model = HybridForCausalLM.from_base(
            base,
            n_qubits=config.n_qubits,
            n_layers=config.n_layers,
            entangler=config.entangler,
            reupload=config.reupload,
            engine=config.engine,
            mixing=config.mixing,
        )
        if not resumes:
            hidden = texts.hidden_rows(self.model.backbone, heed)
            initialise_head(self.model.head, Calibration(hidden, base_g), config.seed)
        body = cast(PreTrainedModel, self.model.backbone)
        self.model.backbone = adapt(body, config.train_backbone, config.lora_rank, config.seed)
        if config.train_backbone == "none":
            self.model.features = FeatureStore.of(body, base.tokenizer)
        self.model.head.classical.decoder.requires_grad_(config.train_backbone == "full")
        if resumes:
            _forget(self.model.head)
        self.optimizer = build_optimizer(self.model, config)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the head predicts."""
        return self.model.head.classical.decoder.out_features

    def check_gradients(self) -> None:
        """Check, before the first step, that the gradient reaches the circuits.

        With several processes DDP fixes its gradient buckets at the first backward pass, and the
        buckets decide how sums are rounded. This pass makes them the same in a resumed run.
        """
        self.ranks.tell("check")
        check_gradients(self._objective, self._checked_on)

    def train_on(self, examples: Sequence[Example], step: int) -> StepResult:
        """Take training step number `step`, counted from 0, on a group of answers."""
        self.ranks.tell("train", examples, step)
        return training_step(self._objective, self.optimizer, examples, step)

    def evaluate(self, examples: Sequence[Example]) -> dict[str, float]:
        """All held-out metrics; an empty dict in processes other than the first."""
        self.ranks.tell("evaluate", examples)
        return evaluate(self.model, examples, self.ranks)

    def save_checkpoint(self, folder: Path, progress: Progress) -> None:
        """Write a checkpoint and remove old ones."""
        kept = self.config.checkpoints_kept
        save_checkpoint(folder, self.model, self.optimizer, progress, kept)

    def load_checkpoint(self, folder: Path, announce: Callable[[str], None]) -> Progress | None:
        """Restore the newest undamaged checkpoint in all processes; None if there is none."""
        progress = load_checkpoint(folder, self.model, self.optimizer, announce)
        if progress is not None:
            state = training_state(self.model, self.optimizer)
            shapes = {name: tensor.shape for name, tensor in state.items()}
            self.ranks.tell("restore", shapes)
            self.ranks.copy_from_first(list(state.values()))
        return progress

    def restore_from_first(self, shapes: dict[str, torch.Size]) -> None:
        """Receive the checkpoint that the first process has loaded."""
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        self.ranks.copy_from_first(list(state.values()))
        restore("the first process", state, self.model, self.optimizer)

    def save_student(self, folder: Path) -> None:
        """Write the student in Hugging Face format, with its adapters merged.

        The learner cannot train afterwards, because merging removes the adapters.
        """
        self.model.backbone = merge_adapters(self.model.backbone)
        with whole_folder(folder) as half_written:
            self.model.save_pretrained(half_written)
            self.tokenizer.save_pretrained(half_written)


def follow(ranks: Ranks) -> None:
    """Repeat the first process's calls in another process, until the first one ends.

    An error while building or in a step is raised in all processes. It is suppressed here: the
    first process reports it and ends the others.
    """
    logging.disable_progress_bar()
    learner: Learner | None = None
    while (heard := ranks.hear())[0] != "end":
        match heard, learner:
            case ("build", config, calibration, n_threads, resumes), None:
                torch.set_num_threads(n_threads)
                with suppress(QuantumHybridError):
                    learner = Learner(config, calibration, ranks, resumes=resumes)
            case ("check",), Learner():
                with suppress(TrainingError):
                    learner.check_gradients()
            case ("train", group, step), Learner():
                with suppress(TrainingError):
                    learner.train_on(group, step)
            case ("evaluate", examples), Learner():
                learner.evaluate(examples)
            case ("restore", shapes), Learner():
                learner.restore_from_first(shapes)
            case _:
                raise ValueError(f"the first process said {heard[0]}, which cannot be done now")
