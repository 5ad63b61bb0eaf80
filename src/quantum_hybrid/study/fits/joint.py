"""The regime *joint*: an arm trained together with backbone and classical head, as `process` does.

The arm stands in the student's quantum pathway; objective, optimiser, learning rates and mixture
are those of a run with the defaults, and nothing is tuned. A fit takes minutes, so a plan with this
regime has few arms and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.student import HybridForCausalLM, QuantumHead, answer_rows
from quantum_hybrid.study.arms import ARMS
from quantum_hybrid.study.fits.fit import Contender, Settings
from quantum_hybrid.study.fits.regime import RegimeFits, drawn_from
from quantum_hybrid.study.fits.sampling import half_sample
from quantum_hybrid.study.ground.corpus import Corpus, Part
from quantum_hybrid.study.ground.healing import Backbone, schedule
from quantum_hybrid.study.parameters import read_parameters, write_parameters
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.text import Example
from quantum_hybrid.training import build_optimizer, three_part_loss
from quantum_hybrid.training.optimizer import update

SPREAD = 0.1
"""Of down(g) at the start, for every arm; the rates are those of a run's quantum pathway."""
UNITS_AT_ONCE = 8
OF_ARM = "head.quantum."
"""Prefix of the arm's parameters among the student's."""


class ArmPathway(nn.Module):
    """An arm in the place of the student's circuits: what `HybridHead` uses of a `QuantumHead`."""

    def __init__(self, contender: Contender, up: nn.Linear) -> None:
        super().__init__()
        self.contender, self.up = contender, up

    @property
    def down(self) -> nn.Linear:
        """The matrix that reads hidden states."""
        return self.contender.down

    def expectations(self, g: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows n"]:
        """The numbers that `up` reads."""
        return self.contender(g)


class JointFit:
    """One arm of one seed."""

    def __init__(self, plan: StudyPlan, arm: str, seed: int, corpus: Corpus) -> None:
        """The student before its training; its arm has no start yet."""
        self._plan, self._arm, self._seed, self._corpus = plan, arm, seed, corpus
        self._backbone = Backbone(plan)
        self._student = self._backbone.student
        # As a run adapts its backbone. Its alpha is trained too.
        self._backbone.adapt(seed)
        self._student.head.alpha_logit.requires_grad_(True)

    def train(self, fits: RegimeFits) -> None:
        """Train on half of the training units. `fits` gives the arm its start."""
        settings = Settings(up_rate=0.0, down_rate=0.0, map_rate=0.0, spread=SPREAD)
        contender, readouts = fits.alone(self._arm, settings, self._seed)
        self._place(contender)
        with torch.no_grad():
            up = self._student.head.quantum.up
            up.weight.copy_(readouts.weights[0][:, : self._plan.n_qubits])
            up.bias.copy_(readouts.biases[0])
        self._curve = torch.tensor(self._steps(contender))

    def _steps(self, contender: Contender) -> list[float]:
        student, config = self._student, self._plan.student()
        optimizer = build_optimizer(student, config)
        fan_ins = contender.map.fan_ins()
        for group in optimizer.param_groups:
            group["scale"] *= fan_ins.get(group["params"][0], 1) ** -0.5
        examples, losses = self._sample(), []
        order = schedule(len(examples), config.total_steps, drawn_from(self._seed, "order"))
        for step, numbers in enumerate(order):
            rows = answer_rows(student, [examples[i] for i in numbers])
            found = three_part_loss(
                student.head,
                rows.hidden,
                rows.targets,
                classical_weight=config.classical_loss_weight,
                quantum_weight=config.quantum_loss_weight,
            )
            losses.append(found.hybrid.mean().item())
            student.zero_grad(set_to_none=True)
            found.objective.backward()
            if not _is_finite(student, found.objective):
                return [*losses, math.nan]  # It has diverged, and stands in the table as such.
            update(student, optimizer, config, step)
        return losses

    def prompt_losses(self) -> Float[Tensor, " units"]:
        """Held-out loss of the mixture, summed over each unit's rows, in nats."""
        student, found = self._student, []
        examples = self._examples("held-out")
        for first in range(0, len(examples), UNITS_AT_ONCE):
            some = examples[first : first + UNITS_AT_ONCE]
            with torch.no_grad():
                rows = answer_rows(student, some)
                logits = student.head(rows.hidden).hybrid
                losses = F.cross_entropy(logits, rows.targets, reduction="none").double()
            sums = torch.zeros(len(some), dtype=torch.float64)
            found.append(sums.index_add_(0, rows.example, losses))
        losses = torch.cat(found)
        return losses if self._curve.isfinite().all() else torch.full_like(losses, torch.nan)

    def write(self, file: Path) -> None:
        """Write what was trained and the curve, atomically."""
        write_parameters(file, self._state() | {"curve": self._curve[None]})

    def read(self, file: Path) -> None:
        """Load what `write` has written. Raises `CheckpointError` for other content."""
        settings = Settings(up_rate=0.0, down_rate=0.0, map_rate=0.0, spread=SPREAD)
        d_model = self._student.head.classical.decoder.in_features
        shape = self._plan.shape
        self._place(Contender.blank(ARMS[self._arm], settings, shape, d_model, self._seed))
        kept = read_parameters(file, self._state(), "a fit of this study")
        if "curve" not in kept:
            raise CheckpointError(f"{file}: not a fit of this version: curve is missing")
        self._curve = kept["curve"][0]

    def _place(self, contender: Contender) -> None:
        head = self._student.head
        up = nn.Linear(self._plan.n_qubits, head.classical.decoder.out_features)
        head.quantum = cast(QuantumHead, ArmPathway(contender, up))

    def _state(self) -> dict[str, Tensor]:
        """Trained parameters of the student, and all of the arm's."""
        student = self._student
        named = ((name, p) for name, p in student.named_parameters() if p.requires_grad)
        arm = student.head.quantum.state_dict(prefix=OF_ARM)
        rest: dict[str, Tensor] = {name: p for name, p in named if not name.startswith(OF_ARM)}
        return rest | arm

    def _examples(self, part: Part) -> list[Example]:
        longest = self._plan.longest_unit
        encoder = self._backbone.encoder
        return [unit.example(encoder, longest) for unit in self._corpus.parts[part]]

    def _sample(self) -> Sequence[Example]:
        examples = self._examples("training")
        chosen = half_sample(len(examples), drawn_from(self._seed, "sample"))
        return [examples[i] for i in chosen]


def _is_finite(student: HybridForCausalLM, objective: Tensor) -> bool:
    gradients = (p.grad for p in student.parameters() if p.grad is not None)
    return all(bool(tensor.isfinite().all()) for tensor in (objective, *gradients))
