"""How quantum a state is: coherence and entanglement of real pure states.

From states ``(batch, 2**n)`` of norm 1, qubit 0 the most significant bit, to one number in [0, 1]
a sample. Neither says that a state is useful, only that it is not classical or not a product.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def coherence(state: Float[Tensor, "batch basis"]) -> Float[Tensor, " batch"]:
    """Relative entropy of coherence in the computational basis, a share of its maximum of n bits.

    For a pure state it is the Shannon entropy of the measurement distribution (Baumgratz, Cramer
    & Plenio 2014, arXiv:1311.0275). 0 for a basis state, 1 for the uniform superposition.

    Raises:
        ValueError: the last dimension is not a power of two, at least 2.
    """
    n_qubits = _count_qubits(state)
    entropy_nats = torch.special.entr(state.square()).sum(1)
    return (entropy_nats / (n_qubits * math.log(2))).clamp(0, 1)


def meyer_wallach(state: Float[Tensor, "batch basis"]) -> Float[Tensor, " batch"]:
    """Meyer-Wallach entanglement: twice the mean impurity of the single qubits.

    ``Q = 2 (1 - mean_k Tr rho_k^2)`` (Meyer & Wallach 2002, arXiv:quant-ph/0108104, in the form
    of Brennen 2003, arXiv:quant-ph/0305094). 0 for a product state, 1 for GHZ.

    Raises:
        ValueError: the last dimension is not a power of two, at least 2.
    """
    n_qubits = _count_qubits(state)
    total = state.new_zeros(len(state))
    for qubit in range(n_qubits):
        zero, one = state.reshape(len(state), 2**qubit, 2, 2 ** (n_qubits - 1 - qubit)).unbind(2)
        overlap = (zero * one).sum((1, 2))
        # For a normalised state 1 - Tr rho^2 = 2 det rho, which does not lose digits to the 1.
        total = total + zero.square().sum((1, 2)) * one.square().sum((1, 2)) - overlap.square()
    return (4 * total / n_qubits).clamp(0, 1)


def _count_qubits(state: Tensor) -> int:
    size = state.shape[1]
    if size < 2 or size & (size - 1):
        raise ValueError(f"state has shape {tuple(state.shape)}; allowed: (batch, 2**n), n >= 1")
    return size.bit_length() - 1
