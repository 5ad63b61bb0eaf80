"""Differentiable quantum circuits for torch: the layer, its ansatz and diagnostics of its states.

Imports nothing else of this project.
"""

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.diagnostics import coherence, meyer_wallach
from quantum_hybrid.circuit.layer import QuantumLayer

__all__ = ["Ansatz", "QuantumLayer", "coherence", "meyer_wallach"]
