"""How the native kernel walks through a circuit's states: which rows, in what groups and order.

Everything the loops of ``kernel`` need to know of an ansatz, worked out once. A *row* is what one
vector holds (see ``lanes``). Up to 11 qubits its lanes are different samples; from 12 on they are
the last qubits of a single one, because 16 states together would leave the caches.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.lanes import (
    MAX_GROUP,
    PREFIXES,
    ROW_BYTES,
    SINGLES,
    WITH_LANES,
    crossing_kind,
    parity_masks,
)

Ints = NDArray[np.int64]

LANES_HOLD_QUBITS_FROM = 12


class Plan(NamedTuple):
    """The qubits of the rows are in groups, in order, each rotated in one pass over the state."""

    n_qubits: int
    n_layers: int
    n_lanes: int
    n_lane_qubits: int
    """Qubits that are bits of the lane number; 0 if the lanes are samples."""
    crossing: int
    """Kind of the first group's passes, where the entangler moves amplitudes between lanes, for
    even rows; one more is that for odd rows. 0: it moves none."""
    group_start: Ints
    """First qubit of each group."""
    group_size: Ints
    group_kind: Ints
    """What ``lanes.rotate`` does with each group."""
    group_shift: Ints
    """Bit of the row number that is the group's last qubit."""
    group_offset: Ints
    """Where the group's part of ``bases`` begins."""
    bases: Ints
    """Rows of a group with all of its own bits 0, one for each outer index."""
    sources: Ints
    """The row that the entangler takes to each base."""
    images: Ints
    """(groups, MAX_GROUP), flat: each bit of a group as a row number; of the first group, as the
    entangler's source."""
    read_kind: int
    """What ``lanes.squares`` does with the last group."""
    parity_low: Ints
    """For each output the last group's part of its parity, as a number of ``squares``."""
    parity_high: Ints
    """For each output the part of the groups before."""

    @property
    def n_row_qubits(self) -> int:
        """Qubits that are bits of the row number."""
        return self.n_qubits - self.n_lane_qubits

    def scalars_forward(self) -> int:
        """Length of ``work`` for `kernel.forward`."""
        rows = (2 << self.n_row_qubits) + 3 * self.n_qubits + MAX_GROUP + 1
        return rows * self.n_lanes

    def scalars_backward(self) -> int:
        """Length of ``work`` for `kernel.backward`."""
        n_passes = (self.n_layers - 1) * len(self.group_size)
        rows = (n_passes + 4) << self.n_row_qubits
        rows += (4 + self.n_layers) * self.n_qubits + MAX_GROUP + 1
        return rows * self.n_lanes


@lru_cache(maxsize=32)
def plan_of(ansatz: Ansatz, itemsize: int) -> Plan:
    """The plan for floats of this size in bytes."""
    n, n_lanes = ansatz.n_qubits, ROW_BYTES // itemsize
    in_lanes = n_lanes.bit_length() - 1 if n >= LANES_HOLD_QUBITS_FROM else 0
    n_rows = n - in_lanes
    sizes = _group_sizes(n_rows)
    starts = [sum(sizes[:group]) for group in range(len(sizes))]
    shifts = [n_rows - start - size for start, size in zip(starts, sizes, strict=True)]
    images = np.zeros((len(sizes), MAX_GROUP), dtype=np.int64)
    bases, offsets = [], []
    for group, (size, shift) in enumerate(zip(sizes, shifts, strict=True)):
        outer = np.arange(2 ** (n_rows - size))
        offsets.append(sum(map(len, bases)))
        bases.append((outer >> shift << shift + size) | (outer & 2**shift - 1))
        for bit in range(size):
            row = 1 << shift + bit
            images[group, bit] = _source(ansatz, row << in_lanes) >> in_lanes if group == 0 else row
    all_bases = np.concatenate(bases)
    sources = np.zeros_like(all_bases)
    for bit in range(n_rows):
        row = _source(ansatz, 1 << bit + in_lanes) >> in_lanes
        sources ^= np.where(all_bases >> bit & 1, row, 0)
    kinds = [*sizes[:-1], WITH_LANES if in_lanes else sizes[-1]]
    parities = np.array([_parity_bits(ansatz, qubits) for qubits in ansatz.readout]) >> in_lanes
    read = SINGLES if ansatz.entangler == "none" else PREFIXES
    masks = parity_masks(sizes[-1] + read)
    return Plan(
        n_qubits=n,
        n_layers=ansatz.n_layers,
        n_lanes=n_lanes,
        n_lane_qubits=in_lanes,
        crossing=crossing_kind(ansatz.entangler) if in_lanes else 0,
        group_start=np.array(starts),
        group_size=np.array(sizes),
        group_kind=np.array(kinds),
        group_shift=np.array(shifts),
        group_offset=np.array(offsets),
        bases=all_bases,
        sources=sources,
        images=images.reshape(-1),
        read_kind=sizes[-1] + read,
        parity_low=np.array([masks.index(parity & 2 ** sizes[-1] - 1) for parity in parities]),
        parity_high=parities >> sizes[-1],
    )


@lru_cache(maxsize=32)
def lane_signs_of(ansatz: Ansatz, dtype: np.dtype) -> NDArray:
    """Sign of each lane in each output's parity, ``(n, lanes)``; 1 when the lanes are samples."""
    plan = plan_of(ansatz, dtype.itemsize)
    if plan.n_lane_qubits == 0:
        return np.ones((plan.n_qubits, plan.n_lanes), dtype)
    masks = [_parity_bits(ansatz, qubits) & plan.n_lanes - 1 for qubits in ansatz.readout]
    lanes = range(plan.n_lanes)
    return np.array(
        [[1 - 2 * ((lane & m).bit_count() & 1) for lane in lanes] for m in masks], dtype
    )


@lru_cache(maxsize=32)
def cnots_of(ansatz: Ansatz) -> Ints:
    """The ansatz's CNOTs as an array ``(count, 2)``."""
    return np.array(ansatz.cnots, dtype=np.int64).reshape(-1, 2)


def _group_sizes(n: int) -> list[int]:
    """Groups of up to four: as even as may be, but the first and the last as large as may be.

    One is not enough for two qubits: output 0 of a ring reads the qubits from 1 on, which are a
    group's first ones only if qubit 0 is in another.
    """
    count = max(min(n, 2), -(-n // MAX_GROUP))
    if count <= 2:
        return sorted([n // count + (i < n % count) for i in range(count)])
    middle = n - 2 * MAX_GROUP
    return [
        MAX_GROUP,
        *(middle // (count - 2) + (i < middle % (count - 2)) for i in range(count - 2)),
        MAX_GROUP,
    ]


def _source(ansatz: Ansatz, index: int) -> int:
    """The basis state that the entangler takes to ``index``."""
    last = ansatz.n_qubits - 1
    for control, target in reversed(ansatz.cnots):
        index ^= (index >> last - control & 1) << last - target
    return index


def _parity_bits(ansatz: Ansatz, qubits: tuple[int, ...]) -> int:
    return sum(1 << ansatz.n_qubits - 1 - qubit for qubit in qubits)
