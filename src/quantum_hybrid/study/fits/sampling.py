"""The training units that a seed sees: a half of them, drawn without replacement.

A half sample has the variance of a bootstrap sample (McCarthy 1969, "Pseudo-replication: half
samples"), so the spread over seeds is as large as that over other training texts, and it
repeats no unit. A bootstrap sample does, and an arm that can learn a unit by heart on its second
pass pays for it on other texts: on the first default study that was worth more than what the arms
can learn (docs/log.md#half-samples).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def half_sample(n_units: int, generator: torch.Generator) -> Int[Tensor, " half"]:
    """Numbers of half of the units, ascending; of an odd number the smaller half."""
    return torch.randperm(n_units, generator=generator)[: n_units // 2].sort().values
