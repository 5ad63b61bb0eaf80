"""Loss against the number of qubits and of layers, on the ground of a finished study.

Each shape is a small study of its own, in scaling/nN-lL of the study's folder: the subject, no
entangler and the identity alone, tuned and trained for a few seeds on a part of the training units.
The held-out units are opened once for all of them, which counts as a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import UsageError
from quantum_hybrid.evaluation.statistics import mean_over_units
from quantum_hybrid.study.arms import ARMS, SUBJECT, Shape
from quantum_hybrid.study.execution import execute_apart
from quantum_hybrid.study.folder import StudyFolder, begun, resumed
from quantum_hybrid.study.ground.corpus import Corpus
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.sizes import LAYERS, LAYERS_OF_WIDTHS, QUBITS, QUBITS_OF_DEPTHS
from quantum_hybrid.study.tasks import tasks_of

SCALED_ARMS = (SUBJECT, "no entangler", "identity")
SEEDS, TRIALS = 3, 8
TRAINING = 300
"""Training units; at most those of the study."""


@dataclass(frozen=True)
class Scaling:
    """What is varied."""

    qubits: tuple[int, ...] = QUBITS
    layers: tuple[int, ...] = LAYERS

    def shapes(self) -> Iterator[Shape]:
        """Every number of qubits, then every number of layers; the other is the student's."""
        widths = [Shape(n, LAYERS_OF_WIDTHS) for n in self.qubits]
        depths = [Shape(QUBITS_OF_DEPTHS, n) for n in self.layers]
        yield from dict.fromkeys([*widths, *depths])


def scale(study: StudyFolder, wanted: Scaling, announce: Callable[[str], None]) -> dict[str, Any]:
    """Conduct all small studies that are not done, and write scaling.json.

    Raises `UsageError` if the study itself is not done.
    """
    if not all(task.is_done(study) for task in tasks_of(study.plan)):
        raise UsageError(f"{study.path}: is not finished; scaling uses its hidden states")
    small = [_small(study, shape) for shape in wanted.shapes()]
    # The longest first, so that no worker is left alone with it.
    small.sort(key=lambda one: -one.plan.n_qubits)
    announce(f"scaling   {len(small)} shapes, {SEEDS} seeds each")
    execute_apart(small, ["tune", "fit"], lambda one: announce(f"trained   {one.path.name}"))
    looks = Looks(study, Corpus.read(study.text).held_out_digests)
    if any(not task.is_done(one) for one in small for task in tasks_of(one.plan)):
        looks.begin()
        execute_apart(small, ["judge"], lambda one: announce(f"judged    {one.path.name}"))
    looks.end()
    content = {"rows": [row for one in _judged(study) for row in _rows(one)]}
    write_json(study.scaling, content)
    return content


def _small(study: StudyFolder, shape: Shape) -> StudyFolder:
    """The small study of a shape, on the study's own ground."""
    plan = study.plan.model_copy(
        update={
            "arms": SCALED_ARMS,
            "regimes": ("alone",),
            "n_qubits": shape.n,
            "n_layers": shape.n_layers,
            "seeds": SEEDS,
            "tuning_trials": TRIALS,
            "training": min(TRAINING, study.plan.training),
        }
    )
    path = study.path / "scaling" / f"n{shape.n}-l{shape.n_layers}"
    return begun(path, plan, ground=study.path / "ground")


def _judged(study: StudyFolder) -> list[StudyFolder]:
    """All small studies that are done, those of earlier calls too."""
    folders = sorted((study.path / "scaling").iterdir())
    found = [resumed(folder, None) for folder in folders if (folder / "study.json").is_file()]
    return [one for one in found if all(task.is_done(one) for task in tasks_of(one.plan))]


def _rows(small: StudyFolder) -> Iterator[dict[str, Any]]:
    """Loss of each arm: mean over seeds, with its standard error over them."""
    plan = small.plan
    sums = np.stack([np.load(small.losses("alone", seed)) for seed in plan.all_seeds])
    losses = sums.sum(-1) / len(
        HiddenStates(small.ground_of("alone")).rows("held-out", with_features=False)
    )
    for arm, of_seeds in zip(plan.arms, losses.T, strict=True):
        built = ARMS[arm].build(plan.shape, seed=0)
        finite = bool(np.isfinite(of_seeds).all())
        yield {
            "arm": arm,
            "n_qubits": plan.n_qubits,
            "n_layers": plan.n_layers,
            "loss": float(of_seeds.mean()) if finite else None,
            "standard_error": mean_over_units(torch.from_numpy(of_seeds)).standard_error
            if finite
            else None,
            "multiply_adds": built.multiply_adds,
        }
