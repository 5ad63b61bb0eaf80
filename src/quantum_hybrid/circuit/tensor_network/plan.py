"""The tables of `transfer`, laid out for the kernel that runs through them.

All that the kernel does with a qubit is to add up products of two rows: of a state and a
coefficient, to go on to the next state, or of two states, for the gradient of a coefficient. A
`Table` is a list of such sums.

States are renumbered: first the even ones, then the odd ones, since a sector knows only one kind
(its *class*); and within a class first those where S of the last entangler is 0, since where the
identity is measured S stays what it is. The states of a class with the same S are a *block*.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.tensor_network.transfer import Bools, Ints, Transitions, transfer_of

ALIGNMENT_BYTES = 64
ROW_BYTES = 128
"""Of a row: one number for each of 32 float32 or 16 float64 samples. Rows of one AVX-512 register
took up to 1.7 times as long a sample, since a product's two row numbers are then read for half as
many; rows of four were quicker only for large batches."""


class Table(NamedTuple):
    """Sums of products, in groups."""

    start: Ints
    """(groups + 1,): where each group begins in ``stream``."""
    stream: NDArray[np.int32]
    """Sum by sum: the row that it goes to, how many products are added and how many subtracted,
    then for each product its two rows. Rows are counted in numbers."""


class Tables(NamedTuple):
    """What the transitions of a kind of qubit are used for."""

    forward: Table
    """Targets from sources and coefficients."""
    backward: Table
    """Sources from targets and coefficients."""
    gradient: Table
    """Coefficients from sources and targets."""


class Plan(NamedTuple):
    """What the kernel needs to know of an ansatz."""

    n_qubits: int
    n_layers: int
    n_lanes: int
    n_coefficients: int
    n_class: int
    """States of the larger class."""
    n_block: int
    """States of the largest block."""
    first_output: int
    """Outputs from here on measure Z on qubits 0 to i: 1 for a ring, else 0."""
    prefix_sectors: Ints
    """Sectors that count for these outputs."""
    closing_sectors: Ints
    """Sectors that remain for the last of them and for a ring's output 0: neither leaves the last
    qubit out."""
    reads_last: Bools
    """(sectors,): whether a closing sector counts for output n - 1."""
    reads_first: Bools
    """(sectors,): whether a closing sector counts for output 0."""
    class_of: Ints
    """(sectors,)"""
    block_of: Ints
    """(sectors,): number of the block in which a sector's identities are measured."""
    block_start: Ints
    """(blocks,): first state of a block, counted from that of its class."""
    block_size: Ints
    last_start: Ints
    """(sectors + 1,): where each begins in ``last``."""
    last: Ints
    """States that may follow the last qubit, counted from the first one of their class."""
    first_z: Tables
    """Groups are sectors; rows of states are counted from the first one of their class."""
    first_identity: Tables
    later_z: Tables
    """Groups are classes."""
    later_identity: Tables
    """Groups are blocks; rows of states are counted from the first one of their block."""
    coefficients: Table
    """All coefficients of a qubit from smaller ones and a cosine or sine; one group."""
    by_factor: Table
    """Gradients of cosine and sine from those of coefficients; groups are layers."""
    by_smaller: Table
    """What they add to the gradients of smaller coefficients; groups are layers."""


@lru_cache(maxsize=16)
def plan_of(ansatz: Ansatz, itemsize: int) -> Plan:
    """The plan for floats of this size; not for ``none``, nor for one qubit."""
    ring = ansatz.entangler == "ring"
    transfer = transfer_of(ansatz.n_layers, ansatz.entangler)
    lanes = ROW_BYTES // itemsize
    states = np.arange(transfer.n_states)
    # S and x of the last entangler; a single layer has none that counts.
    last_s, last_x = (states << 2 >> 2 * ansatz.n_layers - 2 + bit & 1 for bit in (0, 1))
    kind = transfer.odd.astype(np.int64)
    block = 2 * kind + last_s
    order = np.lexsort((states, block))
    position = np.empty_like(states)
    position[order] = states
    class_size, block_size = np.bincount(kind, minlength=2), np.bincount(block, minlength=4)
    class_start = np.array([0, class_size[0]])
    block_start = np.cumsum(block_size) - block_size
    in_class, in_block = position - class_start[kind], position - block_start[block]
    sectors = np.arange(transfer.n_sectors)
    zeta, xi = last_s[sectors], last_x[sectors]
    last_sector, last_state = np.nonzero(transfer.last)
    later, first = transfer.later, transfer.first
    make = _Maker(lanes)
    return Plan(
        n_qubits=ansatz.n_qubits,
        n_layers=ansatz.n_layers,
        n_lanes=lanes,
        n_coefficients=3**ansatz.n_layers,
        n_class=int(class_size.max()),
        n_block=int(block_size.max()),
        first_output=1 if ring else 0,
        prefix_sectors=sectors[xi == 0],
        closing_sectors=sectors[(xi == 1) | (zeta == 0)] if ring else sectors[:0],
        reads_last=xi == 1,
        reads_first=zeta == 0,
        class_of=kind[sectors],
        block_of=block[sectors],
        block_start=block_start - class_start[[0, 0, 1, 1]],
        block_size=block_size,
        last_start=np.searchsorted(last_sector, np.arange(transfer.n_sectors + 1)),
        last=in_class[last_state],
        first_z=make.from_sectors(first.z, in_class, transfer.n_sectors),
        first_identity=make.from_sectors(first.identity, in_class, transfer.n_sectors),
        later_z=make.from_states(later.z, in_class, kind, 2),
        later_identity=make.from_states(later.identity, in_block, block, 4),
        coefficients=make.coefficients(ansatz.n_layers),
        by_factor=make.by_factor(ansatz.n_layers),
        by_smaller=make.by_smaller(ansatz.n_layers),
    )


class _Maker:
    """Makes tables for rows of ``n_lanes`` numbers."""

    def __init__(self, n_lanes: int) -> None:
        self.n_lanes = n_lanes

    def from_sectors(self, these: Transitions, row: Ints, n_sectors: int) -> Tables:
        """The source's row is always row 0."""
        return self._tables(n_sectors, these.source, 0 * these.source, row[these.target], these)

    def from_states(self, these: Transitions, row: Ints, group_of: Ints, n_groups: int) -> Tables:
        group = group_of[these.source]
        return self._tables(n_groups, group, row[these.source], row[these.target], these)

    def _tables(
        self, n_groups: int, group: Ints, source: Ints, target: Ints, these: Transitions
    ) -> Tables:
        coefficient, negative = these.coefficient, these.negative
        return Tables(
            self.table(n_groups, group, target, source, coefficient, negative),
            self.table(n_groups, group, source, target, coefficient, negative),
            self.table(n_groups, group, coefficient, source, target, negative),
        )

    def coefficients(self, n_layers: int) -> Table:
        layer, smaller, larger, factor = _factors(n_layers)
        return self.table(1, 0 * layer, larger, smaller, factor, 0 * layer)

    def by_factor(self, n_layers: int) -> Table:
        layer, smaller, larger, factor = _factors(n_layers)
        return self.table(n_layers, layer, factor, larger, smaller, 0 * layer)

    def by_smaller(self, n_layers: int) -> Table:
        layer, smaller, larger, factor = _factors(n_layers)
        return self.table(n_layers, layer, smaller, larger, factor, 0 * layer)

    def table(
        self, n_groups: int, group: Ints, row: Ints, one: Ints, other: Ints, negative: Ints
    ) -> Table:
        """The products of each group and row, added up."""
        order = np.lexsort((negative, row, group))
        group, row, one, other, negative = (a[order] for a in (group, row, one, other, negative))
        new = np.ones(len(row), dtype=bool)
        new[1:] = (np.diff(group) != 0) | (np.diff(row) != 0)
        number = np.cumsum(new) - 1
        subtracted = np.bincount(number[negative == 1], minlength=new.sum())
        # Each product takes two numbers, and each sum has three before them.
        at = 2 * np.arange(len(row)) + 3 * (number + 1)
        stream = np.zeros(2 * len(row) + 3 * len(subtracted), dtype=np.int32)
        stream[at], stream[at + 1] = one * self.n_lanes, other * self.n_lanes
        head = at[new] - 3
        stream[head] = row[new] * self.n_lanes
        stream[head + 1] = np.bincount(number) - subtracted
        stream[head + 2] = subtracted
        first = np.searchsorted(group[new], np.arange(n_groups + 1))
        return Table(np.append(head, len(stream))[first], stream)


def _factors(n_layers: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Each coefficient but the first as the product of a smaller one and a cosine or sine.

    Layer, smaller coefficient, coefficient, and the factor's row: a cosine and a sine a layer."""
    parts = []
    for layer in range(n_layers):
        smaller, kind = np.tile(np.arange(3**layer), 2), np.repeat([0, 1], 3**layer)
        larger = smaller + (1 + kind) * 3**layer
        parts.append((np.full_like(smaller, layer), smaller, larger, 2 * layer + kind))
    layer, smaller, larger, factor = (np.concatenate(part) for part in zip(*parts, strict=True))
    return layer, smaller, larger, factor
