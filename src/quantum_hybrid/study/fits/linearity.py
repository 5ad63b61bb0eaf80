"""How far an arm's map, as it is used, is from a linear one.

Any smooth map is nearly affine where its angles hardly spread, and the readout then undoes it. A
circuit that is tuned to be so is equivalent to no map at all, for that reason and no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.study.fits.fit import Contender


@torch.no_grad()
def nonlinear_shares(
    contenders: Sequence[Contender], g: Float[Tensor, "rows d_model"]
) -> Float[Tensor, " contenders"]:
    """Share of the variance of each one's outputs that no affine map of its angles explains.

    NaN for outputs without variance, of an arm that does not see g, and for one that diverged.
    """
    return torch.stack([_nonlinear_share(one.angles(g), one(g)) for one in contenders])


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
