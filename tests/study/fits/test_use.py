"""How linear an arm's map is, how far it was trained, and how many directions it has."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch

from quantum_hybrid.study.arms import ARMS, Shape
from quantum_hybrid.study.fits.fit import Contender, Settings, Start
from quantum_hybrid.study.fits.use import Use

SHAPE, D_MODEL = Shape(n=4, n_layers=2), 6
START = Start(torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(3)), torch.zeros(4))
G = torch.randn(1024, D_MODEL, generator=torch.Generator().manual_seed(0))


def begun(name: str, spread: float) -> Contender:
    settings = Settings(up_rate=0.0, down_rate=0.0, map_rate=0.0, spread=spread)
    contender = Contender(ARMS[name], settings, START, SHAPE, seed=0)
    contender.begin(G)
    return contender


def nonlinear_shares(contenders: Sequence[Contender]) -> torch.Tensor:
    return Use.of(contenders, [one.map.state_dict() for one in contenders], G).nonlinear


@pytest.mark.parametrize("spread", [3e-4, 0.3])
def test_a_linear_map_has_a_share_of_zero(spread) -> None:
    shares = nonlinear_shares([begun("identity", spread), begun("affine", spread)])
    assert (shares < 1e-9).all()


def test_a_circuit_is_linear_where_its_angles_hardly_spread_and_only_there() -> None:
    narrow, wide = nonlinear_shares([begun("ring", 3e-4), begun("ring", 1.0)])
    assert narrow < 1e-3
    assert 0.2 < wide < 1


def test_what_is_shuffled_is_explained_by_nothing() -> None:
    (share,) = nonlinear_shares([begun("shuffled", 0.1)])
    assert share > 0.95


def test_without_variance_or_after_divergence_there_is_none() -> None:
    diverged = begun("identity", 0.1)
    with torch.no_grad():
        diverged.down.weight[0, 0] = torch.nan
    assert nonlinear_shares([begun("nothing", 0.1), diverged]).isnan().all()


def test_the_largest_change_of_a_parameter_is_told() -> None:
    contenders = [begun("ring", 0.1), begun("identity", 0.1)]
    first = [deepcopy(one.map.state_dict()) for one in contenders]
    with torch.no_grad():
        next(contenders[0].map.parameters())[0, 0] -= 0.25
    moved = Use.of(contenders, first, G).moved
    torch.testing.assert_close(moved, torch.tensor([0.25, 0.0]))


@pytest.mark.parametrize(("name", "n"), [("ring", 4), ("frozen random", 4), ("nothing", 0)])
def test_directions_are_those_in_which_the_outputs_vary(name, n) -> None:
    one = begun(name, 3e-4)
    assert Use.of([one], [one.map.state_dict()], G).directions.tolist() == [n]
