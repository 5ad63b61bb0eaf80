"""Readouts of many arms over the same rows, in two sweeps of the vocabulary."""

from quantum_hybrid.study.fits.readouts.readouts import Readouts, classical_logits, compile_kernel

__all__ = ["Readouts", "classical_logits", "compile_kernel"]
