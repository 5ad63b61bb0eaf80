from __future__ import annotations

import pytest
import torch

from quantum_hybrid.study.arms import ARMS, Shape
from quantum_hybrid.study.fits.fit import Contender, Settings, Start
from quantum_hybrid.study.fits.linearity import nonlinear_shares

SHAPE, D_MODEL = Shape(n=4, n_layers=2), 6
START = Start(torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(3)), torch.zeros(4))
G = torch.randn(1024, D_MODEL, generator=torch.Generator().manual_seed(0))


def begun(name: str, spread: float) -> Contender:
    settings = Settings(up_rate=0.0, down_rate=0.0, map_rate=0.0, spread=spread)
    contender = Contender(ARMS[name], settings, START, SHAPE, seed=0)
    contender.begin(G)
    return contender


@pytest.mark.parametrize("spread", [3e-4, 0.3])
def test_a_linear_map_has_a_share_of_zero(spread) -> None:
    shares = nonlinear_shares([begun("identity", spread), begun("affine", spread)], G)
    assert (shares < 1e-9).all()


def test_a_circuit_is_linear_where_its_angles_hardly_spread_and_only_there() -> None:
    narrow, wide = nonlinear_shares([begun("ring", 3e-4), begun("ring", 1.0)], G)
    assert narrow < 1e-3
    assert 0.2 < wide < 1


def test_what_is_shuffled_is_explained_by_nothing() -> None:
    (share,) = nonlinear_shares([begun("shuffled", 0.1)], G)
    assert share > 0.95


def test_without_variance_or_after_divergence_there_is_none() -> None:
    diverged = begun("identity", 0.1)
    with torch.no_grad():
        diverged.down.weight[0, 0] = torch.nan
    assert nonlinear_shares([begun("nothing", 0.1), diverged], G).isnan().all()
