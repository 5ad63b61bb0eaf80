"""quantum-hybrid-lm: distil a teacher's text into a hybrid quantum-classical language model.

The public names are imported on first use, so that importing the package and printing `--help`
do not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantum_hybrid.circuit import Ansatz, QuantumLayer
    from quantum_hybrid.student import HybridConfig, HybridForCausalLM

_HOME = {
    "Ansatz": "quantum_hybrid.circuit",
    "HybridConfig": "quantum_hybrid.student",
    "HybridForCausalLM": "quantum_hybrid.student",
    "QuantumLayer": "quantum_hybrid.circuit",
}

__all__ = ["Ansatz", "HybridConfig", "HybridForCausalLM", "QuantumLayer"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
