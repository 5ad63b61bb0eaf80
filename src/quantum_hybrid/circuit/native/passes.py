"""The passes of the native kernel over a state: which rows, in which groups, in which order.

`Passes` holds everything that the loops of ``kernel`` need to know of an ansatz. The process's
layout gives the length of a row and the size of a group. Lanes are different samples for few
qubits. From ``LANES_HOLD_QUBITS_FROM`` on they are the last qubits of a single sample, because the
states of a full register of samples would exceed the caches.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.native.parities import PREFIXES, SINGLES
from quantum_hybrid.circuit.native.rotations import WITH_LANES, first_kind
from quantum_hybrid.compiled.layout import Layout
from quantum_hybrid.compiled.vectors import LAYOUT

Ints = NDArray[np.int64]

LANES_HOLD_QUBITS_FROM = 12
BLOCK_BYTES = 2**16
"""Part of a state that several passes process while it is in the cache; a second-level cache holds
several. 32 and 128 KiB took as long at 16 qubits, and longer at 20 and 22 (docs/log.md)."""
SKEW_BYTES = 1024
"""A quarter of the 4 KiB after which addresses map to the same set of a first-level cache again
(64 sets of 64 bytes)."""


class Passes(NamedTuple):
    """The row qubits in groups, in order; one pass over the state rotates a group."""

    n_qubits: int
    n_layers: int
    n_lanes: int
    n_lane_qubits: int
    """Qubits that are bits of the lane number; 0 if the lanes are samples."""
    skew: int
    """`SKEW_BYTES` in scalars. States that are processed together begin their length plus 1, 2 or 3
    times this apart. Their length is a power of two: without the skew, equal rows of all states
    would map to the same set of the first-level cache."""
    block_rows: int
    """Rows of a *block*: `BLOCK_BYTES` of a state, or the whole of a smaller state."""
    first_local: int
    """From this group on, passes stay within blocks and run block by block."""
    group_start: Ints
    """First qubit of each group."""
    group_size: Ints
    group_kind: Ints
    """The kind of each group's pass, for ``rotations.rotate``."""
    group_stride: Ints
    """Bytes between rows that differ in the group's last qubit."""
    group_offset: Ints
    """Where the group's part of ``bases`` begins."""
    group_count: Ints
    """Number of ``bases`` that one call of ``rotations.rotate`` processes."""
    bases: Ints
    """For each group and value of the other bits: the row with the group's bits 0, in bytes."""
    sources: Ints
    """The row that the entangler takes to each base, in bytes."""
    images: Ints
    """(groups, max_group), flat: the row number in which only this bit of the group is 1, in bytes;
    for the first group, the row that the entangler takes to it."""
    parity_kind: Ints
    """The kind of each group for the intrinsics of ``parities``."""
    parity_row: Ints
    """For each output, the sum over rows from which it is read (see `_parity_rows`)."""
    lane_signs: NDArray
    """Sign of each lane in each output's parity, ``(n, lanes)``; 1 when the lanes are samples."""
    cnots: Ints
    """CNOTs of one layer, ``(count, 2)``, control and target."""


class Work(NamedTuple):
    """Size of a thread's memory, in scalars."""

    forward: int
    """Length of ``work`` for `kernel.forward`."""
    backward: int
    """Length of ``work`` for `kernel.backward`."""


@lru_cache(maxsize=64)
def work_of(ansatz: Ansatz, itemsize: int, layout: Layout = LAYOUT) -> Work:
    """The memory that a circuit takes in a layout, for floats of ``itemsize`` bytes."""
    n, n_lanes = ansatz.n_qubits, layout.row_bytes // itemsize
    n_rows = n - _lane_qubits(n, n_lanes)
    skew, of_group = SKEW_BYTES // itemsize, 2 << layout.max_group
    forward_rows = (2 << n_rows) + 3 * n + 3 + of_group
    n_passes = (ansatz.n_layers - 1) * len(_group_sizes(n_rows, layout.max_group))
    backward_rows = ((n_passes + 4) << n_rows) + (4 + ansatz.n_layers) * n + 3 + of_group
    return Work(
        forward=2 * skew + forward_rows * n_lanes,
        backward=(2 * n_passes + 5) * skew + backward_rows * n_lanes,
    )


@lru_cache(maxsize=32)
def passes_of(ansatz: Ansatz, dtype: np.dtype) -> Passes:
    """The passes for a circuit, in this process's layout, for floats of this dtype."""
    row_bytes, max_group = LAYOUT
    n, n_lanes = ansatz.n_qubits, row_bytes // dtype.itemsize
    in_lanes = _lane_qubits(n, n_lanes)
    n_rows = n - in_lanes
    sizes = _group_sizes(n_rows, max_group)
    starts = [sum(sizes[:group]) for group in range(len(sizes))]
    shifts = [n_rows - start - size for start, size in zip(starts, sizes, strict=True)]
    images = np.zeros((len(sizes), max_group), dtype=np.int64)
    bases, offsets = [], []
    for group, (size, shift) in enumerate(zip(sizes, shifts, strict=True)):
        # All values of the other bits, with a gap of zeros where the group's bits are.
        outer = np.arange(2 ** (n_rows - size))
        offsets.append(sum(map(len, bases)))
        bases.append((outer >> shift << shift + size) | (outer & 2**shift - 1))
        for bit in range(size):
            row = 1 << shift + bit
            images[group, bit] = _source(ansatz, row << in_lanes) >> in_lanes if group == 0 else row
    all_bases = np.concatenate(bases)
    # The entangler is linear over GF(2): the source of a row is the xor of those of its bits.
    sources = np.zeros_like(all_bases)
    for bit in range(n_rows):
        row = _source(ansatz, 1 << bit + in_lanes) >> in_lanes
        sources ^= np.where(all_bases >> bit & 1, row, 0)
    block = min(n_rows, (BLOCK_BYTES // row_bytes).bit_length() - 1)
    first_local = _first_local(ansatz, starts, n_rows - block)
    counts = [
        2 ** ((n_rows if group < first_local else block) - size) for group, size in enumerate(sizes)
    ]
    signed_by = SINGLES if ansatz.entangler == "none" else PREFIXES
    return Passes(
        n_qubits=n,
        n_layers=ansatz.n_layers,
        n_lanes=n_lanes,
        n_lane_qubits=in_lanes,
        skew=SKEW_BYTES // dtype.itemsize,
        block_rows=2**block,
        first_local=first_local,
        group_start=np.array(starts),
        group_size=np.array(sizes),
        group_kind=np.array(_kinds(ansatz, sizes, in_lanes > 0)),
        group_stride=row_bytes << np.array(shifts),
        group_offset=np.array(offsets),
        group_count=np.array(counts),
        bases=all_bases * row_bytes,
        sources=sources * row_bytes,
        images=images.reshape(-1) * row_bytes,
        parity_kind=np.array(sizes) + signed_by,
        parity_row=_parity_rows(ansatz, n_rows),
        lane_signs=_lane_signs(ansatz, 2**in_lanes, n_lanes).astype(dtype),
        cnots=np.array(ansatz.cnots, dtype=np.int64).reshape(-1, 2),
    )


def _kinds(ansatz: Ansatz, sizes: list[int], lanes_hold_qubits: bool) -> list[int]:
    kinds = [*sizes[:-1], WITH_LANES if lanes_hold_qubits else sizes[-1]]
    return [first_kind(ansatz.entangler, sizes[0], lanes_hold_qubits), *kinds[1:]]


def _first_local(ansatz: Ansatz, starts: list[int], n_outside: int) -> int:
    """The first group whose qubits are all within blocks; not group 0 after an entangler."""
    # The entangler moves rows from any block to any other.
    within = [start >= n_outside for start in starts]
    return max(within.index(True), 1 if ansatz.cnots else 0)


def _parity_rows(ansatz: Ansatz, n_rows: int) -> Ints:
    """For each output the number of its sum. The sums are signed by each prefix of the row qubits
    (without an entangler, by each single one), by all but the first, and by none."""
    first = [1 << n_rows - 1 - qubit for qubit in range(n_rows)]
    if ansatz.entangler != "none":
        first = [sum(first[: qubit + 1]) for qubit in range(n_rows)]
    masks = [*first, 2 ** (n_rows - 1) - 1, 0]
    parities = (_parity_bits(ansatz, qubits) for qubits in ansatz.readout)
    return np.array([masks.index(bits >> ansatz.n_qubits - n_rows) for bits in parities])


def _lane_signs(ansatz: Ansatz, n_bits: int, n_lanes: int) -> NDArray:
    masks = [_parity_bits(ansatz, qubits) & n_bits - 1 for qubits in ansatz.readout]
    return np.array(
        [[1 - 2 * ((lane & mask).bit_count() & 1) for lane in range(n_lanes)] for mask in masks]
    )


def _lane_qubits(n: int, n_lanes: int) -> int:
    return n_lanes.bit_length() - 1 if n >= LANES_HOLD_QUBITS_FROM else 0


def _group_sizes(n: int, max_group: int) -> list[int]:
    """Sizes of the groups, at most ``max_group``.

    First and last are as large as possible, the others as even as possible.

    Two qubits make two groups: output 0 of a ring is signed by the qubits from 1 on, and these are
    a prefix of a group only if qubit 0 is in another.
    """
    count = max(min(n, 2), -(-n // max_group))
    if count <= 2:
        return sorted([n // count + (i < n % count) for i in range(count)])
    middle = n - 2 * max_group
    return [
        max_group,
        *(middle // (count - 2) + (i < middle % (count - 2)) for i in range(count - 2)),
        max_group,
    ]


def _source(ansatz: Ansatz, index: int) -> int:
    """The basis state that the entangler takes to ``index``."""
    last = ansatz.n_qubits - 1
    for control, target in reversed(ansatz.cnots):
        index ^= (index >> last - control & 1) << last - target
    return index


def _parity_bits(ansatz: Ansatz, qubits: tuple[int, ...]) -> int:
    return sum(1 << ansatz.n_qubits - 1 - qubit for qubit in qubits)
