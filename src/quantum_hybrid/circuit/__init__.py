"""Differentiable quantum circuits for torch: the layer, its ansatz and diagnostics of its states.

Imports nothing else of this project.
"""

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.diagnostics import coherence, meyer_wallach
from quantum_hybrid.circuit.layer import QuantumLayer
from quantum_hybrid.circuit.surrogate import Surrogate

__all__ = ["Ansatz", "QuantumLayer", "Surrogate", "coherence", "meyer_wallach"]
