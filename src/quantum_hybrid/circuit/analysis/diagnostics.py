"""Coherence and entanglement of real pure states.

From states ``(batch, 2**n)`` of norm 1, qubit 0 the most significant bit, or from a layer and its
inputs, to one number in [0, 1] for each sample. A positive coherence says that a state is no basis
state, a positive entanglement that it is no product state; neither says that it is useful.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import statevector
from quantum_hybrid.circuit.ansatz import entangler_sources

if TYPE_CHECKING:
    from quantum_hybrid.circuit.layer import QuantumLayer

CHUNK_AMPLITUDES = 2**20
"""Amplitudes of the states in memory at a time, where they have to be stored."""


def coherence(state: Float[Tensor, "batch basis"]) -> Float[Tensor, " batch"]:
    """Relative entropy of coherence in the computational basis, divided by its maximum of n bits.

    For a pure state it is the Shannon entropy of the measurement distribution (Baumgratz, Cramer
    & Plenio 2014, arXiv:1311.0275). 0 for a basis state, 1 for the uniform superposition.

    Raises:
        ValueError: the last dimension is not a power of two, at least 2.
    """
    n_qubits = _count_qubits(state)
    probabilities = state.square()
    # Several times faster than torch.special.entr; the clamp makes 0 ln 0 = 0.
    logarithms = probabilities.clamp_min(torch.finfo(state.dtype).tiny).log()
    entropy_nats = -(probabilities * logarithms).sum(1)
    return _fraction_of_maximum(entropy_nats, n_qubits)


def meyer_wallach(state: Float[Tensor, "batch basis"]) -> Float[Tensor, " batch"]:
    """Meyer-Wallach entanglement: twice the mean impurity of the single qubits.

    ``Q = 2 (1 - mean_k Tr rho_k^2)`` (Meyer & Wallach 2002, arXiv:quant-ph/0108104, in the form
    of Brennen 2003, arXiv:quant-ph/0305094). 0 for a product state, 1 for GHZ.

    For a real state ``<Y> = 0``, so ``Tr rho^2 = (1 + <Z>^2 + <X>^2) / 2``.

    Raises:
        ValueError: the last dimension is not a power of two, at least 2.
    """
    n_qubits = _count_qubits(state)
    z = statevector.expectations_z(state)
    # RY(pi/2) on every qubit turns X into Z, up to the sign.
    turned = statevector.apply_rotations(state, state.new_full((n_qubits,), math.pi / 2))
    x = statevector.expectations_z(turned)
    return (1 - (z.square() + x.square()).mean(1)).clamp(0, 1)


@torch.no_grad()
def coherence_and_entanglement(
    layer: "QuantumLayer", inputs: Tensor
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """`coherence` and `meyer_wallach` of the states that a layer measures for inputs ``(..., n)``.

    Fast enough for every training step: at n = 8, L = 3 it takes as long as two or three forward
    passes. This holds for float32 on the CPU, a single encoding and up to 14 qubits. Other layers
    go through ``layer.final_state``, some samples at a time, which takes several times longer.

    Raises:
        ValueError, TypeError: as `QuantumLayer.forward`.
    """
    rows = torch.atleast_1d(inputs)
    rows = rows.reshape(-1, rows.shape[-1])
    found = _in_one_pass(layer, rows) if _kernel_can(layer, rows) else _in_chunks(layer, rows)
    coherences, entanglements = found.view(2, *inputs.shape[:-1])
    return coherences, entanglements


def _kernel_can(layer: "QuantumLayer", rows: Tensor) -> bool:
    from quantum_hybrid.circuit.analysis import state_kernel  # Importing Numba takes half a second.

    ansatz = layer.ansatz
    return (
        rows.device.type == "cpu"
        and rows.dtype == layer.weights.dtype == torch.float32
        and rows.ndim == 2
        and rows.shape[1] == ansatz.n_qubits <= state_kernel.MAX_QUBITS
        and not ansatz.reupload
    )


def _in_one_pass(layer: "QuantumLayer", rows: Tensor) -> Float[Tensor, "2 batch"]:
    from quantum_hybrid.circuit.analysis import state_kernel

    n, tile, weights = layer.ansatz.n_qubits, state_kernel.TILE, layer.weights.detach()
    n_tiles = -(-len(rows) // tile)
    angles = rows.new_zeros(n_tiles * tile, n)
    torch.add(rows, weights[0], out=angles[: len(rows)])
    half = angles.view(n_tiles, tile, n).transpose(1, 2).contiguous().mul_(0.5)
    later = weights[1:] / 2
    sources = entangler_sources(layer.ansatz)
    # No amplitude is moved: each entangler only changes the order in which rows are read.
    orders = [sources]
    for _ in range(layer.ansatz.n_layers - 1):
        orders.append(orders[-1][sources])
    out = rows.new_empty(2, n_tiles, tile)
    arrays = (*out, half.cos(), half.sin(), later.cos(), later.sin(), torch.stack(orders))
    state_kernel.measure(*(tensor.numpy() for tensor in arrays))
    entropy_nats, determinants = out.view(2, -1)[:, : len(rows)]
    return torch.stack([_fraction_of_maximum(entropy_nats, n), (4 * determinants / n).clamp(0, 1)])


def _in_chunks(layer: "QuantumLayer", rows: Tensor) -> Float[Tensor, "2 batch"]:
    n_samples = max(1, CHUNK_AMPLITUDES >> layer.ansatz.n_qubits)
    states = map(layer.final_state, rows.split(n_samples))
    return torch.cat([torch.stack([coherence(s), meyer_wallach(s)]) for s in states], 1)


def _fraction_of_maximum(entropy_nats: Tensor, n_qubits: int) -> Tensor:
    return (entropy_nats / (n_qubits * math.log(2))).clamp(0, 1)


def _count_qubits(state: Tensor) -> int:
    size = state.shape[1]
    if size < 2 or size & (size - 1):
        raise ValueError(f"state has shape {tuple(state.shape)}; allowed: (batch, 2**n), n >= 1")
    return size.bit_length() - 1
