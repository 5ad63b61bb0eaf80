"""Expressibility and entangling capability of an ansatz, over random angles.

Both are defined by Sim, Johnson & Aspuru-Guzik 2019 (arXiv:1905.10876); see ``random_circuit`` for
the angles. Expressibility is the divergence KL(P, Haar), in nats, of the distribution of the
fidelity F = <a|b>^2 of two independent states. It is 0 for an ansatz whose states are uniform.

The states here are real, so the reference is the Haar measure of the orthogonal group: a uniform
unit vector of R^N, N = 2**n, for which F has the distribution Beta(1/2, (N-1)/2). Published figures
use the complex one, Beta(1, N-1), which real states do not reach even if they are uniform. It is
reported too, for comparison.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit.analysis.diagnostics import meyer_wallach
from quantum_hybrid.circuit.analysis.random_circuit import check_samples, final_states
from quantum_hybrid.circuit.ansatz import Ansatz

N_BINS = 75
"""Bins of equal width over [0, 1], as in Sim et al."""


class Expressibility(NamedTuple):
    """Divergence from Haar, estimated from a histogram."""

    kl_nats: float
    """From the real Haar measure."""
    standard_error: float
    """Standard error of ``kl_nats``, by linearisation."""
    floor: float
    """Expected ``kl_nats`` of n_pairs pairs of Haar-random states, from the number of bins that are
    not empty (Miller & Madow 1955). A ``kl_nats`` near it cannot be distinguished from 0."""
    kl_nats_complex: float
    """From the complex Haar measure."""
    n_pairs: int


class Capability(NamedTuple):
    """Mean Meyer-Wallach entanglement of random states, in [0, 1]."""

    mean: float
    standard_error: float
    n_samples: int


def estimate_expressibility(
    ansatz: Ansatz, generator: torch.Generator, n_pairs: int = 5000
) -> Expressibility:
    """Expressibility of an ansatz, from ``n_pairs`` pairs of random states.

    Raises:
        ValueError: the circuit does not fit in memory, or n_pairs is less than 2.
    """
    check_samples("n_pairs", n_pairs)
    pairs = zip(
        final_states(ansatz, n_pairs, generator),
        final_states(ansatz, n_pairs, generator),
        strict=True,
    )
    fidelities = torch.cat([(one * other).sum(1).square() for one, other in pairs])
    return divergence_from_haar(fidelities, 2**ansatz.n_qubits)


def estimate_capability(
    ansatz: Ansatz, generator: torch.Generator, n_samples: int = 5000
) -> Capability:
    """Mean Meyer-Wallach entanglement of ``n_samples`` random states.

    For uniform real states it is (N - 2) / (N + 2), N = 2**n.

    Raises:
        ValueError: the circuit does not fit in memory, or n_samples is less than 2.
    """
    check_samples("n_samples", n_samples)
    values = torch.cat([meyer_wallach(s) for s in final_states(ansatz, n_samples, generator)])
    error = values.std() / math.sqrt(n_samples)
    return Capability(values.mean().item(), error.item(), n_samples)


def divergence_from_haar(fidelities: Float[Tensor, " pairs"], dimension: int) -> Expressibility:
    """KL(histogram of the fidelities, Haar) in nats, for states of ``dimension`` components."""
    n_pairs = len(fidelities)
    counts = torch.histc(fidelities.clamp(0, 1), N_BINS, 0, 1)
    filled = counts > 0
    p = counts[filled] / n_pairs
    surprise = p.log() - log_haar_bins(dimension)[filled]
    kl = (p * surprise).sum()
    variance = (p * surprise.square()).sum() - kl.square()
    complex_kl = (p * (p.log() - log_complex_haar_bins(dimension)[filled])).sum()
    return Expressibility(
        kl_nats=kl.item(),
        standard_error=math.sqrt(max(variance.item(), 0.0) / n_pairs),
        floor=(len(p) - 1) / (2 * n_pairs),
        kl_nats_complex=complex_kl.item(),
        n_pairs=n_pairs,
    )


def log_haar_bins(dimension: int) -> Float[Tensor, " bins"]:
    """Logarithms of the bins' probabilities for uniform unit vectors of R^N.

    With F = sin^2 phi the density is proportional to cos^(N-2) phi, which has no poles. It is
    integrated over each bin by Gauss-Legendre quadrature, in logarithms: the probabilities of the
    last bins would underflow.
    """
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(64))
    edges = torch.linspace(0, 1, N_BINS + 1, dtype=torch.float64).sqrt().asin()
    half_width = edges.diff()[:, None] / 2
    angles = edges[:-1, None] + half_width * (1 + nodes)
    log_parts = (half_width * weights).log() + (dimension - 2) * angles.cos().log()
    log_total = (
        math.lgamma((dimension - 1) / 2) - math.lgamma(dimension / 2) + math.log(math.pi) / 2
    ) - math.log(2)
    return log_parts.logsumexp(1) - log_total


def log_complex_haar_bins(dimension: int) -> Float[Tensor, " bins"]:
    """The same for unit vectors of C^N, where P(F > f) = (1 - f)^(N-1)."""
    left = torch.arange(N_BINS, dtype=torch.float64) / N_BINS
    ratio = (1 - left - 1 / N_BINS).clamp_min(0) / (1 - left)
    return (dimension - 1) * (1 - left).log() + torch.log1p(-(ratio ** (dimension - 1)))
