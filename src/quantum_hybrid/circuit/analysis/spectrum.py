"""The Fourier spectrum of a layer: the frequencies of its outputs in each of its inputs.

As a function of an input that is encoded r times, an output has integer frequencies up to r and no
others, whatever the weights (Schuld, Sweke & Meyer 2021, arXiv:2008.08605); the weights determine
their amplitudes. A single encoding has the frequencies -1, 0 and 1, re-uploading up to
``n_layers``.

One input at a time is moved through a full turn on an even grid, the others are held at random
values, in float64. The grid is finer than the largest frequency requires, so frequencies beyond it
would be seen.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import statevector
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.layer import QuantumLayer

FREQUENCIES_BEYOND = 2
"""Frequencies that the grid resolves beyond the largest one that theory allows."""
ZERO = 1e-24
"""Largest power that counts as zero: an amplitude of 1e-12 is float64 rounding."""


class Spectrum(NamedTuple):
    """Power of each frequency, a mean over random values of the other inputs."""

    power: Float[Tensor, "inputs outputs frequencies"]
    """Mean square of the component of each frequency, -f and f together: cos(x + t) has 1/2 at 1.
    The powers of an output add up to its mean square."""

    def frequencies(self) -> list[list[int]]:
        """For each input the frequencies f >= 0 with power in at least one output."""
        present = (self.power > ZERO).any(1)
        return [row.nonzero().flatten().tolist() for row in present]


@torch.no_grad()
def fourier_spectrum(
    layer: QuantumLayer, generator: torch.Generator, n_draws: int = 16
) -> Spectrum:
    """Spectrum of a layer with its present weights.

    Args:
        generator: source of the other inputs, which are uniform over a full turn.
        n_draws: number of random values of the other inputs, for each input.

    Raises:
        ValueError: the circuit does not fit in memory, or n_draws is less than 1.
    """
    ansatz = layer.ansatz
    statevector.check(ansatz)
    if n_draws < 1:
        raise ValueError(f"n_draws={n_draws!r} is out of range; allowed: an integer of at least 1")
    weights = layer.weights.detach().to("cpu", torch.float64)
    turns = torch.rand(n_draws, ansatz.n_qubits, generator=generator, dtype=torch.float64)
    others = 2 * math.pi * turns
    power = [_power(ansatz, weights, others, i) for i in range(ansatz.n_qubits)]
    return Spectrum(torch.stack(power))


def _power(
    ansatz: Ansatz, weights: Tensor, others: Float[Tensor, "draws qubits"], moved: int
) -> Float[Tensor, "outputs frequencies"]:
    highest = (ansatz.n_layers if ansatz.reupload else 1) + FREQUENCIES_BEYOND
    n_points = 2 * highest + 1
    grid = 2 * math.pi / n_points * torch.arange(n_points, dtype=torch.float64)
    inputs = others[:, None].repeat(1, n_points, 1)
    inputs[:, :, moved] = grid
    outputs = statevector.expectations(ansatz, inputs.flatten(0, 1), weights)
    amplitudes = torch.fft.rfft(outputs.view(len(others), n_points, -1), dim=1, norm="forward")
    power = amplitudes.abs().square().mean(0).mT
    power[:, 1:] *= 2
    return power
