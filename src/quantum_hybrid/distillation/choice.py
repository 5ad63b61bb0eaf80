"""The choice of a run's distillation method. No other module asks which method a run has."""

from __future__ import annotations

from typing import Literal

from quantum_hybrid.distillation.method import Method
from quantum_hybrid.distillation.text_alone import TextAlone
from quantum_hybrid.distillation.top_k import ByToken
from quantum_hybrid.distillation.uld import ByRank


def method_for(
    top_logprobs: int, loss: Literal["kl", "uld"], weight: float, temperature: float
) -> Method:
    """The method of these settings: `TextAlone` if `top_logprobs` is 0, else by `loss`."""
    if top_logprobs == 0:
        return TextAlone()
    kind = ByRank if loss == ByRank.name else ByToken
    return kind(top_logprobs, weight, temperature)
