"""Barren plateaus: how the gradients of an ansatz shrink with the number of qubits.

Over random angles (see ``random_circuit``) the derivatives d<Z_i> / d theta[l, j] have mean 0. In a
sufficiently random circuit their variance falls exponentially with the number of qubits (McClean et
al. 2018, arXiv:1803.11173), so an optimizer finds no direction from a random start. The fit here is
ln(variance) = intercept + slope n. A slope of -ln 2 halves the variance with each qubit.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import statevector
from quantum_hybrid.circuit.analysis.random_circuit import (
    check_samples,
    chunk_sizes,
    draw_angles,
    state_before_readout,
)
from quantum_hybrid.circuit.ansatz import Ansatz

LARGEST_ZERO = 1e-24
"""Largest variance of a derivative that is zero up to float64 rounding."""


class PlateauFit(NamedTuple):
    """A straight line through the logarithms of variances, by least squares."""

    slope: float
    """Change of ln(variance) with each qubit."""
    standard_error: float
    """Standard error of the slope, from the residuals."""
    intercept: float


def gradient_variances(
    ansatz: Ansatz, generator: torch.Generator, n_samples: int = 200
) -> Float[Tensor, "outputs layers qubits"]:
    """Variance of the derivative of each output by each weight, from ``n_samples`` random circuits.

    The mean is known to be 0, so the variance is the mean square. Its relative standard error is
    about sqrt(2 / n_samples) for one entry, and less for a mean over several.

    Raises:
        ValueError: the circuit does not fit in memory, or n_samples is less than 2.
    """
    statevector.check(ansatz)
    check_samples("n_samples", n_samples)
    states_a_sample = 4 * ansatz.n_layers + 4
    largest = statevector.GRAPH_BYTES // (states_a_sample << ansatz.n_qubits + 3)
    total = torch.zeros(ansatz.n_qubits, ansatz.n_layers, ansatz.n_qubits, dtype=torch.float64)
    for count in chunk_sizes(n_samples, largest):
        total += _squared_gradients(ansatz, draw_angles(ansatz, count, generator))
    return total / n_samples


def mean_variance(variances: Float[Tensor, "outputs layers qubits"]) -> float:
    """The mean of the variances over the pairs of output and weight that depend on each other.

    A weight outside an output's light cone has a derivative of exactly 0 in any circuit, so it is
    left out.
    """
    return variances[variances > LARGEST_ZERO].mean().item()


def fit_plateau(n_qubits: Sequence[int], variances: Sequence[float]) -> PlateauFit:
    """Straight line through ln(variance) against the number of qubits.

    Raises:
        ValueError: there are fewer than 3 points, the two lengths differ, all qubit counts are
            equal, or a variance is not positive and finite.
    """
    if len(n_qubits) != len(variances) or len(n_qubits) < 3 or len(set(n_qubits)) < 2:
        raise ValueError(
            f"n_qubits={list(n_qubits)} and {len(variances)} variances do not determine a line; "
            "allowed: at least 3 of each, at least 2 different n_qubits"
        )
    if not all(0 < variance < math.inf for variance in variances):
        raise ValueError(f"variances={list(variances)} is out of range; allowed: positive, finite")
    x = torch.tensor(n_qubits, dtype=torch.float64)
    y = torch.tensor(variances, dtype=torch.float64).log()
    centred = x - x.mean()
    slope = (centred @ y) / (centred @ centred)
    residuals = y - y.mean() - slope * centred
    error = (residuals @ residuals / (len(x) - 2) / (centred @ centred)).sqrt()
    return PlateauFit(slope.item(), error.item(), (y.mean() - slope * x.mean()).item())


@torch.enable_grad()
def _squared_gradients(
    ansatz: Ansatz, angles: Float[Tensor, "batch layers qubits"]
) -> Float[Tensor, "outputs layers qubits"]:
    """Squares of the derivatives, summed over the samples; each sample has its own weights."""
    angles.requires_grad_()
    state = state_before_readout(ansatz, angles)
    outputs = statevector.expectations_parity(state, ansatz.readout)
    squares = []
    for output in outputs.sum(0):
        (gradient,) = torch.autograd.grad(output, angles, retain_graph=True)
        squares.append(gradient.square().sum(0))
    return torch.stack(squares).cpu()
