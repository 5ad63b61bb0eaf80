"""The three-part objective."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.student import HybridLogits
from quantum_hybrid.training import three_part_loss


@given(c=st.floats(0, 10), q=st.floats(0, 10), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_the_objective_is_hybrid_plus_c_classical_plus_q_quantum(c, q, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    hybrid, classical, quantum = (3 * torch.randn(6, 20, generator=generator) for _ in range(3))
    targets = torch.randint(0, 20, (6,), generator=generator)
    logits = HybridLogits(hybrid, classical, quantum, torch.zeros(len(hybrid), 2))
    losses = three_part_loss(logits, targets, classical_weight=c, quantum_weight=q)
    assert torch.equal(losses.objective, losses.hybrid + c * losses.classical + q * losses.quantum)
    for loss, part in (
        (losses.hybrid, hybrid),
        (losses.classical, classical),
        (losses.quantum, quantum),
    ):
        expected = -torch.stack([part[i].log_softmax(-1)[targets[i]] for i in range(6)]).mean()
        torch.testing.assert_close(loss, expected)
