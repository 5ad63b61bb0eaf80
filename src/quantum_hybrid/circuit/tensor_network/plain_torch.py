"""The `tensor_network` engine in plain torch: any device, derivatives of any order.

The sums of ``kernel`` as products of dense matrices: for each qubit one matrix from states to
states, with all sectors as rows. This is the version to read first; docs/circuit.md derives it.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.tensor_network.transfer import Transitions, transfer_of

GRAPH_BYTES = 256 * 2**20
"""Above this the batch is split, and each part is recomputed in the backward pass."""


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    if not ansatz.cnots:
        n_encodings = ansatz.n_layers if ansatz.reupload else 1
        outputs = (n_encodings * inputs + weights.sum(0)).cos()
    else:
        outputs = _in_parts(ansatz, inputs, weights)
    # An output may not depend on every input. This makes all outputs of a sample NaN if one of its
    # inputs is not finite.
    return outputs + (0 * inputs).sum(1, keepdim=True)


def _in_parts(ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    run = partial(_contract, ansatz)
    if (
        torch.compiler.is_compiling()
    ):  # otherwise torch would trace one graph for each size of a batch
        return run(inputs, weights)
    n_states, n_sectors = _counts(ansatz.n_layers, ansatz.entangler)
    n_numbers = (2 * n_states + 3 * n_sectors) * n_states
    sample_bytes = n_numbers * ansatz.n_qubits * inputs.element_size()
    if len(inputs) * sample_bytes <= GRAPH_BYTES:
        return run(inputs, weights)
    parts = inputs.split(max(1, GRAPH_BYTES // sample_bytes))
    if not torch.is_grad_enabled():
        return torch.cat([run(part, weights) for part in parts])
    return torch.cat([checkpoint(run, part, weights, use_reentrant=False) for part in parts])


def _contract(ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
    signed = _signed_coefficients(ansatz, inputs, weights)
    index = _index(ansatz.n_layers, ansatz.entangler, inputs.device)
    later = range(1, ansatz.n_qubits)
    z = {qubit: signed[:, qubit, index.later_z] for qubit in later}
    last = index.last.to(inputs.dtype).expand(inputs.shape[0], -1, -1)

    # Value of each state after a qubit, with the identity measured on all later qubits.
    right = [last]
    for qubit in reversed(later):
        right.insert(0, right[0] @ signed[:, qubit, index.later_identity].mT)
    # States after each qubit, with Z measured on it and on all qubits before it.
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
    """For each entry of the matrices its position among the signed coefficients."""

    first_z: Int[Tensor, "sectors states"]
    first_identity: Int[Tensor, "sectors states"]
    later_z: Int[Tensor, "states states"]
    later_identity: Int[Tensor, "states states"]
    last: Int[Tensor, "sectors states"]


def _index(n_layers: int, entangler: str, device: torch.device) -> _Index:
    if torch.compiler.is_dynamo_compiling():  # Dynamo cannot trace the making of the tables
        flat = _traced_tables(n_layers, entangler).to(device)
    elif torch.compiler.is_compiling():  # a tensor that belongs to a graph must not be cached
        flat = torch.from_numpy(_tables(n_layers, entangler)).to(device)
    else:
        flat = _kept_tables(n_layers, entangler, device)
    n_states, n_sectors = _counts(n_layers, entangler)
    n_rows = [n_sectors, n_sectors, n_states, n_states, n_sectors]
    return _Index(*flat.view(-1, n_states).split(n_rows))


def _counts(n_layers: int, entangler: str) -> tuple[int, int]:
    """Number of states, number of sectors."""
    n_states = 4 ** (n_layers - 1)
    return n_states, n_states if entangler == "ring" else 1


@lru_cache(maxsize=16)
def _kept_tables(n_layers: int, entangler: str, device: torch.device) -> Tensor:
    # Autograd refuses tensors that were made in inference mode, and this one is cached.
    with torch.inference_mode(False):
        return torch.from_numpy(_tables(n_layers, entangler)).to(device)


@torch.library.custom_op("quantum_hybrid::transfer_tables", mutates_args=())
def _traced_tables(n_layers: int, entangler: str) -> Tensor:
    return torch.tensor(_tables(n_layers, entangler))


@_traced_tables.register_fake
def _(n_layers: int, entangler: str) -> Tensor:
    n_states, n_sectors = _counts(n_layers, entangler)
    return torch.empty((3 * n_sectors + 2 * n_states) * n_states, dtype=torch.int64)


@lru_cache(maxsize=16)
def _tables(n_layers: int, entangler: str) -> NDArray[np.int64]:
    """The fields of `_Index`, one after the other."""
    transfer = transfer_of(n_layers, entangler)
    n_coefficients = 3**n_layers

    def matrix(n_sources: int, these: Transitions) -> NDArray[np.int64]:
        entries = np.full((n_sources, transfer.n_states), 2 * n_coefficients)
        entries[these.source, these.target] = these.coefficient + these.negative * n_coefficients
        return entries

    tables = [
        matrix(transfer.n_sectors, transfer.first.z),
        matrix(transfer.n_sectors, transfer.first.identity),
        matrix(transfer.n_states, transfer.later.z),
        matrix(transfer.n_states, transfer.later.identity),
        transfer.last,
    ]
    return np.concatenate(tables, dtype=np.int64).ravel()
