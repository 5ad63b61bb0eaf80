"""The common ground of all arms: the hidden states of a frozen backbone, kept on disk.

    ground/healed/decoder.npy              W (words, d_model); bias.npy if the decoder has a bias
    ground/healed/training/g.npy           last hidden states after the norm, (rows, d_model)
    ground/healed/training/features.npy    inputs of the decoder; g is their place if there are none
    ground/healed/training/targets.npy     tokens that follow
    ground/healed/training/units.npy       number of each row's unit

A folder appears whole. Arrays are memory-mapped, so that processes on one machine share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.durable import whole_folder
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.student import HybridForCausalLM, answer_rows
from quantum_hybrid.study.fits.fit import Rows
from quantum_hybrid.study.ground.corpus import PARTS, Part
from quantum_hybrid.text import Example

EXAMPLES_AT_ONCE = 16


@dataclass(frozen=True)
class HiddenStates:
    """The kept arrays of one backbone."""

    folder: Path

    def decoder(self) -> Float[Tensor, "words d_model"]:
        """W: the classical logits are features W^T."""
        return self._array("decoder.npy")

    def bias(self) -> Float[Tensor, " words"] | None:
        """The decoder's bias, if it has one."""
        return self._array("bias.npy") if (self.folder / "bias.npy").exists() else None

    def rows(self, part: Part, *, with_features: bool) -> Rows:
        """The rows of a part; with `features` for the regimes beside a classical pathway."""
        g = self._array(f"{part}/g.npy")
        features = None
        if with_features:
            own = self.folder / part / "features.npy"
            features = self._array(f"{part}/features.npy") if own.exists() else g
        return Rows(
            g, self._array(f"{part}/targets.npy"), self._array(f"{part}/units.npy"), features
        )

    def _array(self, name: str) -> Tensor:
        file = self.folder / name
        try:
            # Copy on write: torch warns of memory that cannot be written.
            return torch.from_numpy(np.load(file, mmap_mode="c"))
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(f"{file}: cannot be read: {error}") from error


@torch.no_grad()
def keep_hidden_states(
    student: HybridForCausalLM,
    parts: Mapping[Part, Sequence[Example]],
    folder: Path,
    *,
    healed: bool,
) -> HiddenStates:
    """Compute and write the arrays of a frozen backbone; an unhealed one's features are g."""
    head = student.head.classical
    with whole_folder(folder) as half_written:
        np.save(half_written / "decoder.npy", head.decoder.weight.numpy())
        if (bias := head.bias()) is not None:
            np.save(half_written / "bias.npy", bias.numpy())
        for part in PARTS:
            target = half_written / part
            target.mkdir()
            g, features, targets, units = _arrays(student, parts[part], healed=healed)
            np.save(target / "g.npy", g)
            if features is not None:
                np.save(target / "features.npy", features)
            np.save(target / "targets.npy", targets)
            np.save(target / "units.npy", units)
    return HiddenStates(folder)


def _arrays(
    student: HybridForCausalLM, examples: Sequence[Example], *, healed: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    head = student.head.classical
    found: list[tuple[Tensor, ...]] = []
    for first in range(0, len(examples), EXAMPLES_AT_ONCE):
        rows = answer_rows(student, examples[first : first + EXAMPLES_AT_ONCE])
        g = head.norm(rows.hidden)
        features = head.features(rows.hidden) if healed else g
        found.append((g, features, rows.targets, rows.example + first))
    g, features, targets, units = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return g, features if healed else None, targets, units
