"""The engine for many qubits: exact transfer matrices, at a cost linear in their number."""

from quantum_hybrid.circuit.tensor_network.engine import check, expectations

__all__ = ["check", "expectations"]
