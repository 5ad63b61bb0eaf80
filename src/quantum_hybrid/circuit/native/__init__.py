"""The CPU engine for training: compiled by Numba, gradients by the adjoint method."""

from quantum_hybrid.circuit.native.engine import check, compile_kernel, expectations

__all__ = ["check", "compile_kernel", "expectations"]
