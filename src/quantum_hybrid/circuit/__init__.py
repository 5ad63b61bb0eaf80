"""Differentiable quantum circuits for torch: the layer, its exact polynomial, devices, diagnostics.

It imports nothing of this project but ``compiled``.
"""

from quantum_hybrid.circuit.analysis.diagnostics import (
    coherence,
    coherence_and_entanglement,
    meyer_wallach,
)
from quantum_hybrid.circuit.analysis.expressibility import (
    estimate_capability,
    estimate_expressibility,
)
from quantum_hybrid.circuit.analysis.gradient_variance import (
    fit_plateau,
    gradient_variances,
    mean_variance,
)
from quantum_hybrid.circuit.analysis.spectrum import fourier_spectrum
from quantum_hybrid.circuit.analysis.surrogate import Surrogate
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.device import DeviceCircuit, DeviceLayer, Measurement, on_device
from quantum_hybrid.circuit.layer import QuantumLayer

__all__ = [
    "Ansatz",
    "DeviceCircuit",
    "DeviceLayer",
    "Measurement",
    "QuantumLayer",
    "Surrogate",
    "coherence",
    "coherence_and_entanglement",
    "estimate_capability",
    "estimate_expressibility",
    "fit_plateau",
    "fourier_spectrum",
    "gradient_variances",
    "mean_variance",
    "meyer_wallach",
    "on_device",
]
