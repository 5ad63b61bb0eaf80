"""Gate by gate on the whole state, in plain torch: any device, any ansatz, up to 24 qubits.

From input angles ``(batch, n)`` and weights ``(layers, n)`` to Pauli-Z expectations ``(batch, n)``,
differentiable in both. Every gate is real, so the state is real: ``(batch, 2**n)`` in the dtype of
the inputs, qubit 0 the most significant bit of the basis index.

Why it is fast:

- RY(x) and RY(theta) on one qubit are RY(x + theta), so an encoding costs nothing, and the state
  after the first rotations is a product state.
- The rotations of up to four neighbouring qubits are one matrix product with a 16 x 16 Kronecker
  product.
- The CNOTs of one layer are one gather. Those of the last layer need none: outputs are read as
  parities (see ``Ansatz.readout``).
- A batch with a large graph is split into chunks, and each chunk's states are recomputed in the
  backward pass instead of being kept (Chen et al. 2016, arXiv:1604.06174).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from quantum_hybrid.circuit.ansatz import Ansatz, entangler_sources, entangler_targets

MAX_QUBITS = 24
BLOCK_QUBITS = 4
"""Qubits rotated by one matrix product. At n = 16 a layer took as long with 3 as with 4 and a third
longer with 5. The larger the block, the fewer states are kept for the backward pass."""

GRAPH_BYTES = 256 * 2**20
"""Above this the states are recomputed in the backward pass instead of being kept."""

MAX_SAMPLE_BYTES = 4 * 2**30
"""Largest size of the states that one sample's backward pass needs, for float32. At n = 22 with 40
layers they take 4.3 GiB, and the process grew by 8.3 GiB."""

CHUNK_BYTES = 2 * 2**20
"""Size of the states of one chunk. From 1 to 8 MiB the time hardly differs, but the peak of memory
grows."""


def check(ansatz: Ansatz) -> None:
    """Refuse a circuit that does not fit, before anything is allocated.

    Raises:
        ValueError: there are too many qubits, or too many layers for this number of qubits.
    """
    if ansatz.n_qubits > MAX_QUBITS:
        size_gib = 2.0 ** (ansatz.n_qubits + 2 - 30)
        raise ValueError(
            f"n_qubits={ansatz.n_qubits} is too large for engine='statevector': one float32 state "
            f"takes {size_gib:.4g} GiB; allowed: 1 to {MAX_QUBITS}; with few layers use "
            "engine='tensor_network'"
        )
    size = _states_kept(ansatz) * 2**ansatz.n_qubits * 4
    if size > MAX_SAMPLE_BYTES:
        raise ValueError(
            f"n_layers={ansatz.n_layers} is too many for engine='statevector' at n_qubits="
            f"{ansatz.n_qubits}: training keeps {size / 2**30:.3g} GiB of states a sample, "
            f"allowed: {MAX_SAMPLE_BYTES / 2**30:.0f}; use fewer layers, and with few "
            "engine='tensor_network'"
        )


def or_fewer_layers(ansatz: Ansatz) -> str:
    """Advice for a circuit that does not fit another engine: an engine that it fits, if any."""
    if not ansatz.cnots:
        return "use engine='tensor_network'"
    try:
        check(ansatz)
    except ValueError:
        return "use fewer layers: no other engine holds this circuit"
    return "use engine='statevector'"


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    read = partial(expectations_parity, parities=ansatz.readout)
    return _evolve_in_chunks(ansatz, inputs, weights, read)


def final_state(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch basis"]:
    """The state that is measured, of norm 1; real."""
    return _evolve_in_chunks(ansatz, inputs, weights, partial(apply_entangler, ansatz))


def product_state(angles: Float[Tensor, "batch qubits"]) -> Float[Tensor, "batch basis"]:
    """RY(angle) on every qubit of |0...0>; angles in radians."""
    n_qubits = angles.shape[1]
    if n_qubits == 1:
        return torch.cat([(angles / 2).cos(), (angles / 2).sin()], dim=1)
    high = product_state(angles[:, : n_qubits // 2])
    low = product_state(angles[:, n_qubits // 2 :])
    return (high[:, :, None] * low[:, None, :]).flatten(1)


def apply_rotations(
    state: Float[Tensor, "batch basis"], angles: Float[Tensor, "*batch qubits"]
) -> Float[Tensor, "batch basis"]:
    """RY(angle) on every qubit; radians, ``(n,)`` for the whole batch or ``(batch, n)``."""
    return _apply_blocks(state, rotation_blocks(angles))


def apply_entangler(
    ansatz: Ansatz, state: Float[Tensor, "batch basis"], inverse: bool = False
) -> Float[Tensor, "batch basis"]:
    """The CNOTs of one layer, or their inverse, as a permutation of the amplitudes."""
    if not ansatz.cnots:
        return state
    sources, targets = _kept(_entangler_indices, ansatz, state.device)
    if inverse:
        sources, targets = targets, sources
    return _Permutation.apply(state, sources, targets)


def expectations_z(state: Float[Tensor, "batch basis"]) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit of a state, in [-1, 1]."""
    n_qubits = state.shape[1].bit_length() - 1
    return expectations_parity(state, tuple((i,) for i in range(n_qubits)))


def expectations_parity(
    state: Float[Tensor, "batch basis"], parities: tuple[tuple[int, ...], ...]
) -> Float[Tensor, "batch parities"]:
    """Expectation of the product of Z over each set of qubits, in [-1, 1]."""
    # The sign of a basis state is that of its high bits times that of its low bits: two small
    # tables instead of one of 2**n rows.
    n_qubits = state.shape[1].bit_length() - 1
    high, low = _kept(_parity_signs, n_qubits, parities, state.device, state.dtype)
    probabilities = state.square().view(state.shape[0], high.shape[0], low.shape[0])
    return ((probabilities @ low) * high).sum(1)


def rotation_blocks(angles: Float[Tensor, "*batch qubits"]) -> list[Tensor]:
    """Kronecker products of RY over groups of up to ``BLOCK_QUBITS`` neighbouring qubits."""
    return [rotation_matrix(group) for group in angles.split(BLOCK_QUBITS, dim=-1)]


def blocks_by_layer(angles: Float[Tensor, "layers *batch qubits"]) -> list[list[Tensor]]:
    """The `rotation_blocks` of each layer, computed for all layers together, which is faster."""
    if len(angles) == 0:
        return []
    blocks = rotation_blocks(angles)
    return [list(layer) for layer in zip(*(block.unbind() for block in blocks), strict=True)]


def rotation_matrix(
    angles: Float[Tensor, "*batch qubits"],
) -> Float[Tensor, "*batch basis basis"]:
    """RY(angle_0) (x) RY(angle_1) (x) ... as one orthogonal matrix."""
    n_qubits = angles.shape[-1]
    if n_qubits == 1:
        cos, sin = (angles / 2).cos(), (angles / 2).sin()
        return torch.stack([torch.cat([cos, -sin], -1), torch.cat([sin, cos], -1)], -2)
    high = rotation_matrix(angles[..., : n_qubits // 2])
    low = rotation_matrix(angles[..., n_qubits // 2 :])
    product = high[..., :, None, :, None] * low[..., None, :, None, :]
    return product.flatten(-4, -3).flatten(-2, -1)


def evolve(
    ansatz: Ansatz, state: Float[Tensor, "batch basis"], blocks: list[list[Tensor]]
) -> Float[Tensor, "batch basis"]:
    """Entangler, then rotations, once for each layer's ``blocks``."""
    for layer in blocks:
        state = _apply_blocks(apply_entangler(ansatz, state), layer)
    return state


def _apply_blocks(state: Tensor, blocks: list[Tensor]) -> Tensor:
    """Multiply by each block on its own qubits; a block is ``(w, w)`` or ``(batch, w, w)``."""
    batch, size = state.shape
    right = 1
    for block in reversed(blocks):
        width = block.shape[-1]
        left = size // (width * right)
        if right == 1:  # one product for the whole batch takes a quarter less time
            state = state.reshape(batch, left, width) @ block.mT
        else:
            state = block.unsqueeze(-3) @ state.reshape(batch, left, width, right)
        right *= width
    return state.reshape(batch, size)


def _evolve_in_chunks(
    ansatz: Ansatz, inputs: Tensor, weights: Tensor, read: Callable[[Tensor], Tensor]
) -> Tensor:
    """``read`` of the state before the last entangler."""
    shared = [] if ansatz.reupload else blocks_by_layer(weights[1:])

    def run(rows: Tensor) -> Tensor:
        blocks = shared
        if ansatz.reupload:
            blocks = blocks_by_layer(rows + weights[1:, None])
        return read(evolve(ansatz, product_state(rows + weights[0]), blocks))

    return in_chunks(run, ansatz, inputs, weights, _states_kept(ansatz))


def in_chunks(
    run: Callable[[Tensor], Tensor],
    ansatz: Ansatz,
    inputs: Float[Tensor, "batch qubits"],
    weights: Float[Tensor, "layers qubits"],
    states_kept: int,
) -> Float[Tensor, "batch columns"]:
    """``run(inputs)``; if its graph is large, in chunks that the backward pass recomputes.

    states_kept: states that the graph of one sample keeps.
    """
    if torch.compiler.is_compiling():  # else there would be one graph for each batch size
        return run(inputs)
    state_bytes = 2**ansatz.n_qubits * inputs.element_size()
    if len(inputs) * state_bytes * states_kept <= GRAPH_BYTES:
        return run(inputs)
    chunks = inputs.split(max(1, CHUNK_BYTES // state_bytes))
    if torch.is_grad_enabled() and (inputs.requires_grad or weights.requires_grad):
        # No random numbers are drawn here, so there is no generator state to restore.
        recomputed = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([recomputed(chunk) for chunk in chunks])
    return torch.cat([run(chunk) for chunk in chunks])


def _states_kept(ansatz: Ansatz) -> int:
    """States in the graph of one sample."""
    n_blocks = -(-ansatz.n_qubits // BLOCK_QUBITS)
    return 2 + (ansatz.n_layers - 1) * (n_blocks + 1)


def _kept(make: Callable[..., tuple[Tensor, Tensor]], *of: Any) -> tuple[Tensor, Tensor]:
    """``make(*of)``, cached; while torch traces, computed as part of the graph."""
    return make(*of) if torch.compiler.is_compiling() else _keep(make, *of)


@lru_cache(maxsize=64)
def _keep(make: Callable[..., tuple[Tensor, Tensor]], *of: Any) -> tuple[Tensor, Tensor]:
    # Autograd refuses tensors that were made in inference mode, and these are cached.
    with torch.inference_mode(False):
        return make(*of)


def _parity_signs(
    n_qubits: int,
    parities: tuple[tuple[int, ...], ...],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Signs of the high and of the low bits, ``(2**high, parities)`` and ``(2**low, parities)``."""
    n_high = max(0, n_qubits - 8)
    tables = []
    for qubits in (range(n_high), range(n_high, n_qubits)):
        index = torch.arange(2 ** len(qubits), device="cpu")
        columns = []
        for parity in parities:
            bits = sum(((index >> (qubits[-1] - qubit)) & 1) for qubit in qubits if qubit in parity)
            columns.append((1 - 2 * (bits % 2)) * torch.ones_like(index))
        tables.append(torch.stack(columns, 1).to(device, dtype))
    return tables[0], tables[1]


def _entangler_indices(ansatz: Ansatz, device: torch.device) -> tuple[Tensor, Tensor]:
    return entangler_sources(ansatz).to(device), entangler_targets(ansatz).to(device)


class _Permutation(torch.autograd.Function):
    """Permute the columns. The gradient is the inverse gather; torch's own, a scatter-add, takes
    several times longer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(state: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        return state.gather(1, sources.expand(state.shape[0], -1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.indices = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        sources, targets = ctx.indices
        return _Permutation.apply(grad, targets, sources), None, None
