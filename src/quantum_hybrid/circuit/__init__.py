"""Differentiable quantum circuits for torch: the layer, its exact polynomial, diagnostics.

Imports nothing else of this project.
"""

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.diagnostics import (
    coherence,
    coherence_and_entanglement,
    meyer_wallach,
)
from quantum_hybrid.circuit.layer import QuantumLayer
from quantum_hybrid.circuit.surrogate import Surrogate

__all__ = [
    "Ansatz",
    "QuantumLayer",
    "Surrogate",
    "coherence",
    "coherence_and_entanglement",
    "meyer_wallach",
]
