"""Hybrid heads with random weights, rows for them, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantum_hybrid.student import ClassicalHead, HybridHead, QuantumHead
from quantum_hybrid.student.head import Mixing

D_MODEL, VOCABULARY, ROWS = 12, 2500, 37
"""More words than a thread takes at a time, and no multiple of the lanes of anything."""


def head(mixing: Mixing, dtype: torch.dtype = torch.float32, **given: Any) -> HybridHead:
    torch.manual_seed(0)
    bias, given = given.pop("bias", False), {"n_qubits": 3} | given
    classical = ClassicalHead(nn.RMSNorm(D_MODEL), D_MODEL, VOCABULARY, decoder_bias=bias)
    quantum = QuantumHead(D_MODEL, VOCABULARY, n_layers=2, **given)
    hybrid = HybridHead(classical, quantum, mixing)
    nn.init.normal_(classical.decoder.weight)
    nn.init.normal_(quantum.up.weight)
    nn.init.normal_(quantum.up.bias)
    nn.init.constant_(classical.log_scale, 0.3)
    nn.init.constant_(hybrid.alpha_logit, 0.4)
    return hybrid.to(dtype)


def batch(dtype: torch.dtype = torch.float32, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = 2 * torch.randn(rows, D_MODEL, generator=generator, dtype=dtype)
    return hidden.requires_grad_(), torch.randint(0, VOCABULARY, (rows,), generator=generator)


def distributions(rows: int, words: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, words, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1)


def gradients(value: Tensor, hybrid: HybridHead, hidden: Tensor) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {n: p for n, p in hybrid.named_parameters() if p.requires_grad}
    named["hidden"] = hidden
    return dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compare to a tolerance relative to each tensor's largest number."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        assert scale > 0, name
        distance = (got[name] - value).abs().max().item()
        assert distance <= tolerance * scale, (name, distance, scale)
