"""How an arm's map is used once it is trained: how linear, how far trained, in how many directions.

Any smooth map is nearly affine where its angles hardly spread, and the readout then undoes it. A
circuit that is tuned to be so is equivalent to no map at all, for that reason and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.study.fits.fit import Contender


class Use(NamedTuple):
    """Of each arm."""

    nonlinear: Float[Tensor, " arms"]
    """Share of the variance of its outputs that no affine map of its angles explains. NaN for
    outputs without variance, of an arm that does not see g, and for one that diverged."""
    moved: Float[Tensor, " arms"]
    """Largest change of a parameter of its map by the training: of a circuit's angles in radians.
    """
    directions: Float[Tensor, " arms"]
    """Number of directions in which its outputs varied at the start, at most n."""

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        contenders: Sequence[Contender],
        first: Sequence[Mapping[str, Tensor]],
        g: Float[Tensor, "rows d_model"],
    ) -> Use:
        """first: states of the maps before the training. g: rows on which the maps are judged."""
        return cls(
            torch.stack([_nonlinear_share(one.angles(g), one(g)) for one in contenders]),
            torch.tensor([_moved(one, old) for one, old in zip(contenders, first, strict=True)]),
            torch.tensor([float(one.n_directions) for one in contenders]),
        )

    @classmethod
    def unknown(cls, n_arms: int) -> Use:
        """Of arms that are not trained."""
        return cls(*torch.full((3, n_arms), torch.nan))


def _nonlinear_share(
    angles: Float[Tensor, "rows n"], outputs: Float[Tensor, "rows n"]
) -> Float[Tensor, ""]:
    x, z = angles.double(), outputs.double()
    if not (x.isfinite().all() and z.isfinite().all()):
        return torch.tensor(torch.nan)
    x, z = x - x.mean(0), z - z.mean(0)
    scale = x.std(0, correction=0)
    x = torch.where(scale > 0, x / scale, 0.0)  # Angles of a thousandth are as good as others.
    explained = x @ torch.linalg.lstsq(x, z, driver="gelsd").solution
    return ((z - explained).square().sum() / z.square().sum()).float()


def _moved(contender: Contender, first: Mapping[str, Tensor]) -> float:
    changes = [
        float((parameter.detach() - first[name]).abs().max())
        for name, parameter in contender.map.named_parameters()
    ]
    return max(changes, default=0.0)
