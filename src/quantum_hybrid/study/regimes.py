"""The regimes of a study: what stands beside its arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantum_hybrid.study.arms import WRITER

Regime = Literal["alone", "beside", "weak", "planted", "joint"]
GroundName = Literal["healed", "pruned", "planted"]
GROUNDS: tuple[GroundName, ...] = ("healed", "pruned", "planted")
"""In the order in which they are made: the planted one is made from the healed one."""


@dataclass(frozen=True)
class RegimeFacts:
    """What a regime is."""

    says: str
    """The logits of an arm, in words."""
    ground: GroundName
    """The hidden states that it reads: of the healed backbone, of the pruned one that was not
    healed, or those of the healed one with planted next tokens."""
    is_beside: bool = True
    """Whether there are classical logits, to which those of an arm are added."""
    is_joint: bool = False
    """Whether each arm is trained by itself together with the backbone, and nothing is tuned."""
    also: tuple[str, ...] = ()
    """Arms beside those of the plan."""


REGIMES: dict[Regime, RegimeFacts] = {
    "alone": RegimeFacts(
        "the logits are up(f(s tanh(down g))) and nothing else", "healed", is_beside=False
    ),
    "beside": RegimeFacts(
        "added to the recalibrated classical logits of the healed backbone", "healed"
    ),
    "weak": RegimeFacts("as beside, with the pruned backbone that was not healed", "pruned"),
    "planted": RegimeFacts(
        "the positive control: as beside, but the next tokens are drawn from a student whose "
        "circuits, a ring with angles of its own, are known to help; these circuits are an arm, "
        "too",
        "planted",
        also=(WRITER,),
    ),
    "joint": RegimeFacts(
        "mixed with classical logits, and trained with the whole backbone as a run does",
        "pruned",
        is_joint=True,
    ),
}
CONTROLS: tuple[Regime, ...] = ("planted",)
"""Regimes that test the study itself, and say nothing of the teacher's text."""
