"""Circuits with random angles, drawn separately for each sample.

Figures of an ansatz, as opposed to those of a layer with its weights, are averages over these.
Angles are independent and uniform over a full turn, in float64. There are no inputs: an encoding
adds them to angles that are uniform already, so a re-uploading circuit has the same distribution of
states as one that encodes once.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import statevector
from quantum_hybrid.circuit.ansatz import Ansatz


def draw_angles(
    ansatz: Ansatz, n_samples: int, generator: torch.Generator
) -> Float[Tensor, "batch layers qubits"]:
    """Angles in radians, independent and uniform in [-pi, pi)."""
    shape = n_samples, ansatz.n_layers, ansatz.n_qubits
    turns = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return 2 * math.pi * (turns - 0.5)


def state_before_readout(
    ansatz: Ansatz, angles: Float[Tensor, "batch layers qubits"]
) -> Float[Tensor, "batch basis"]:
    """The state before the last entangler; the outputs are its ``Ansatz.readout`` parities."""
    blocks = statevector.blocks_by_layer(angles[:, 1:].transpose(0, 1))
    return statevector.evolve(ansatz, statevector.product_state(angles[:, 0]), blocks)


def final_states(
    ansatz: Ansatz, n_samples: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "chunk basis"]]:
    """States of ``n_samples`` random circuits, in chunks.

    Raises:
        ValueError: the circuit does not fit in memory.
    """
    statevector.check(ansatz)
    for count in chunk_sizes(n_samples, statevector.CHUNK_BYTES >> ansatz.n_qubits + 3):
        state = state_before_readout(ansatz, draw_angles(ansatz, count, generator))
        yield statevector.apply_entangler(ansatz, state)


def chunk_sizes(n_samples: int, largest: int) -> Iterator[int]:
    """Sizes of at most ``largest`` (at least 1) that add up to ``n_samples``."""
    largest = max(1, largest)
    for start in range(0, n_samples, largest):
        yield min(largest, n_samples - start)


def check_samples(name: str, n_samples: int) -> None:
    """Refuse a number of samples that is too small for a standard error."""
    if n_samples < 2:
        raise ValueError(f"{name}={n_samples!r} is out of range; allowed: an integer of at least 2")
