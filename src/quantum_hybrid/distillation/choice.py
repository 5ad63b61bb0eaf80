"""Which method a run learns by: the one place where that is asked."""

from __future__ import annotations

from typing import Literal

from quantum_hybrid.distillation.method import Method
from quantum_hybrid.distillation.text_alone import TextAlone
from quantum_hybrid.distillation.top_k import ByToken
from quantum_hybrid.distillation.uld import ByRank


def method_for(
    top_logprobs: int, loss: Literal["kl", "uld"], weight: float, temperature: float
) -> Method:
    """From the teacher's text alone where no log-probability of it is to be asked for."""
    if top_logprobs == 0:
        return TextAlone()
    kind = ByRank if loss == ByRank.name else ByToken
    return kind(top_logprobs, weight, temperature)
