"""The `tensor_network` engine in plain torch: any device, differentiable as often as one likes.

The same sums as in `transfer_kernel`, as products of matrices: for each qubit the matrix that takes
states to states, with all sectors as rows. It is the one to read; docs/circuit.md says why it is
right.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.transfer import Transitions, transfer_of

GRAPH_BYTES = 256 * 2**20
"""Above this, a batch is cut up, and each part is computed again in the backward pass."""


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    if not ansatz.cnots:
        n_encodings = ansatz.n_layers if ansatz.reupload else 1
        outputs = (n_encodings * inputs + weights.sum(0)).cos()
    else:
        outputs = _in_parts(ansatz, inputs, weights)
    # An output need not depend on all inputs, but a broken sample must not look sound.
    return outputs + (0 * inputs).sum(1, keepdim=True)


def _in_parts(ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    transfer = transfer_of(ansatz.n_layers, ansatz.entangler)
    n_numbers = (2 * transfer.n_states + 3 * transfer.n_sectors) * transfer.n_states
    sample_bytes = n_numbers * ansatz.n_qubits * inputs.element_size()
    run = partial(_contract, ansatz)
    if len(inputs) * sample_bytes <= GRAPH_BYTES or not torch.is_grad_enabled():
        return run(inputs, weights)
    parts = inputs.split(max(1, GRAPH_BYTES // sample_bytes))
    return torch.cat([checkpoint(run, part, weights, use_reentrant=False) for part in parts])


def _contract(ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    signed = _signed_coefficients(ansatz, inputs, weights)
    index = _index(ansatz.n_layers, ansatz.entangler, inputs.device)
    later = range(1, ansatz.n_qubits)
    z = {qubit: signed[:, qubit, index.later_z] for qubit in later}
    last = index.last.to(inputs.dtype).expand(len(inputs), -1, -1)

    # What a state after each qubit is worth, the identity being measured on all that follow.
    right = [last]
    for qubit in reversed(later):
        right.insert(0, right[0] @ signed[:, qubit, index.later_identity].mT)
    # States after each qubit, Z being measured on it and all before.
    left = [signed[:, 0, index.first_z]]
    for qubit in later:
        left.append(left[-1] @ z[qubit])
    outputs = [(one * other).sum((1, 2)) for one, other in zip(left, right, strict=True)]
    if ansatz.entangler == "ring":
        # Output 0 measures Z on all qubits but the first.
        closing = last
        for qubit in reversed(later):
            closing = closing @ z[qubit].mT
        outputs[0] = (signed[:, 0, index.first_identity] * closing).sum((1, 2))
    return torch.stack(outputs, dim=1)


def _signed_coefficients(
    ansatz: Ansatz, inputs: Tensor, weights: Tensor
) -> Float[Tensor, "batch qubits signed"]:
    """The coefficients of each qubit, then their negatives, then 0."""
    product = torch.ones(1, dtype=inputs.dtype, device=inputs.device)
    for layer, angles in enumerate(weights):
        angles = angles + inputs if layer == 0 or ansatz.reupload else angles.expand_as(inputs)
        factors = torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], dim=-1)
        product = (factors[..., :, None] * product[..., None, :]).flatten(-2)
    return torch.cat([product, -product, torch.zeros_like(product[..., :1])], dim=-1)


class _Index(NamedTuple):
    """Where among the signed coefficients each entry of a matrix is."""

    first_z: Int[Tensor, "sectors states"]
    first_identity: Int[Tensor, "sectors states"]
    later_z: Int[Tensor, "states states"]
    later_identity: Int[Tensor, "states states"]
    last: Tensor


@lru_cache(maxsize=16)
def _index(n_layers: int, entangler: str, device: torch.device) -> _Index:
    transfer = transfer_of(n_layers, entangler)

    def matrix(n_sources: int, these: Transitions) -> Tensor:
        n_coefficients = 3**n_layers
        entries = torch.full((n_sources, transfer.n_states), 2 * n_coefficients)
        number = these.coefficient + these.negative * n_coefficients
        source, target = torch.from_numpy(these.source), torch.from_numpy(these.target)
        entries[source, target] = torch.from_numpy(number)
        return entries.to(device)

    return _Index(
        first_z=matrix(transfer.n_sectors, transfer.first.z),
        first_identity=matrix(transfer.n_sectors, transfer.first.identity),
        later_z=matrix(transfer.n_states, transfer.later.z),
        later_identity=matrix(transfer.n_states, transfer.later.identity),
        last=torch.from_numpy(transfer.last).to(device),
    )
