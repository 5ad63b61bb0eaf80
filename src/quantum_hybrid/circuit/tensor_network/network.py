"""The tables of `transfer` as lists of sums that the kernel executes.

At each qubit the kernel adds up products of two rows: of a state and a coefficient, for the next
state, or of two states, for the gradient by a coefficient. A `Table` is a list of such sums.

States are renumbered. First come the even ones, then the odd ones: all states of a sector are of
one of these *classes* (see `Transfer.odd`). Within a class, first come those where S of the last
entangler is 0: where the identity is measured, this S does not change. The states of a class with
the same S are a *block*.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.tensor_network.transfer import Bools, Ints, Transitions, transfer_of

ROW_BYTES = 128
"""Bytes of a row: one number for each of 32 samples in float32, of 16 in float64. Rows of half this
length took up to 1.7 times as long per sample, since reading the two row numbers of a product is
then spread over half the samples. Rows of twice this length were faster only for large batches."""


class Table(NamedTuple):
    """Sums of products, in groups that are executed separately."""

    start: Ints
    """(groups + 1,): where each group begins in ``stream``."""
    stream: NDArray[np.int32]
    """For each sum: the row that it is written to, the number of products that are added and the
    number that are subtracted, then for each product its two rows. A row is its offset in bytes."""


class Tables(NamedTuple):
    """The transitions at a kind of qubit, as three lists of sums."""

    forward: Table
    """Sums for targets, of sources times coefficients."""
    backward: Table
    """Sums for sources, of targets times coefficients."""
    gradient: Table
    """Sums for coefficients, of sources times targets."""


class Network(NamedTuple):
    """What the kernel needs to know of an ansatz; nothing depends on angles."""

    n_qubits: int
    n_layers: int
    n_lanes: int
    n_coefficients: int
    n_class: int
    """Number of states of the larger class."""
    n_block: int
    """Number of states of the largest block."""
    first_output: int
    """Outputs from here on measure Z on qubits 0 to i: 1 for a ring, else 0."""
    prefix_sectors: Ints
    """Sectors that contribute to these outputs."""
    closing_sectors: Ints
    """Sectors of the outputs that measure Z on a ring's last qubit: those that ``prefix_sectors``
    lacks for output n - 1, and all of output 0."""
    reads_last: Bools
    """(sectors,): whether a closing sector contributes to output n - 1."""
    reads_first: Bools
    """(sectors,): whether a closing sector contributes to output 0."""
    class_of: Ints
    """(sectors,): class of a sector's states."""
    block_of: Ints
    """(sectors,): the block of a sector's states where the identity is measured."""
    block_start: Ints
    """(blocks,): first state of a block, counted from the first one of its class."""
    block_size: Ints
    last_start: Ints
    """(sectors + 1,): where each sector begins in ``last``."""
    last: Ints
    """States that are allowed after the last qubit, counted from the first one of their class."""
    first_z: Tables
    """Groups are sectors; rows of states are counted from the first one of their class."""
    first_identity: Tables
    later_z: Tables
    """Groups are classes."""
    later_identity: Tables
    """Groups are blocks; rows of states are counted from the first one of their block."""
    coefficients: Table
    """Each coefficient of a qubit, a smaller one times a cosine or sine; one group."""
    by_factor: Table
    """Gradients by cosine and sine, from those by coefficients; groups are layers."""
    by_smaller: Table
    """What coefficients add to the gradients by smaller ones; groups are layers."""


@lru_cache(maxsize=16)
def network_of(ansatz: Ansatz, itemsize: int) -> Network:
    """The network of an ansatz with CNOTs, for floats of ``itemsize`` bytes."""
    ring = ansatz.entangler == "ring"
    transfer = transfer_of(ansatz.n_layers, ansatz.entangler)
    lanes = ROW_BYTES // itemsize
    states = np.arange(transfer.n_states)
    # S and x of the last entangler; 0 for a single layer, which has none before the last rotations.
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
    return Network(
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
        first_z=_from_sectors(first.z, in_class, transfer.n_sectors),
        first_identity=_from_sectors(first.identity, in_class, transfer.n_sectors),
        later_z=_from_states(later.z, in_class, kind, 2),
        later_identity=_from_states(later.identity, in_block, block, 4),
        coefficients=_coefficients(ansatz.n_layers),
        by_factor=_by_factor(ansatz.n_layers),
        by_smaller=_by_smaller(ansatz.n_layers),
    )


def _from_sectors(these: Transitions, row: Ints, n_sectors: int) -> Tables:
    """The source's row is always row 0."""
    return _tables(n_sectors, these.source, 0 * these.source, row[these.target], these)


def _from_states(these: Transitions, row: Ints, group_of: Ints, n_groups: int) -> Tables:
    group = group_of[these.source]
    return _tables(n_groups, group, row[these.source], row[these.target], these)


def _tables(n_groups: int, group: Ints, source: Ints, target: Ints, these: Transitions) -> Tables:
    coefficient, negative = these.coefficient, these.negative
    return Tables(
        _table(n_groups, group, target, source, coefficient, negative),
        _table(n_groups, group, source, target, coefficient, negative),
        _table(n_groups, group, coefficient, source, target, negative),
    )


def _coefficients(n_layers: int) -> Table:
    layer, smaller, larger, factor = _factors(n_layers)
    return _table(1, 0 * layer, larger, smaller, factor, 0 * layer)


def _by_factor(n_layers: int) -> Table:
    layer, smaller, larger, factor = _factors(n_layers)
    return _table(n_layers, layer, factor, larger, smaller, 0 * layer)


def _by_smaller(n_layers: int) -> Table:
    layer, smaller, larger, factor = _factors(n_layers)
    return _table(n_layers, layer, smaller, larger, factor, 0 * layer)


def _table(n_groups: int, group: Ints, row: Ints, one: Ints, other: Ints, negative: Ints) -> Table:
    """One sum for each group and row: of the products ``one`` times ``other``."""
    order = np.lexsort((negative, row, group))
    group, row, one, other, negative = (a[order] for a in (group, row, one, other, negative))
    new = np.ones(len(row), dtype=bool)
    new[1:] = (np.diff(group) != 0) | (np.diff(row) != 0)
    number = np.cumsum(new) - 1
    subtracted = np.bincount(number[negative == 1], minlength=new.sum())
    # A sum takes 3 numbers in the stream, then 2 for each of its products.
    at = 2 * np.arange(len(row)) + 3 * (number + 1)
    stream = np.zeros(2 * len(row) + 3 * len(subtracted), dtype=np.int32)
    stream[at], stream[at + 1] = one * ROW_BYTES, other * ROW_BYTES
    head = at[new] - 3
    stream[head] = row[new] * ROW_BYTES
    stream[head + 1] = np.bincount(number) - subtracted
    stream[head + 2] = subtracted
    first = np.searchsorted(group[new], np.arange(n_groups + 1))
    return Table(np.append(head, len(stream))[first], stream)


def _factors(n_layers: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Each coefficient but the first as a product of a smaller coefficient and one factor.

    Returns arrays of one entry a product: layer, smaller coefficient, coefficient, and the factor's
    row, ``2 layer`` for the cosine and ``2 layer + 1`` for the sine.
    """
    parts = []
    for layer in range(n_layers):
        smaller, kind = np.tile(np.arange(3**layer), 2), np.repeat([0, 1], 3**layer)
        larger = smaller + (1 + kind) * 3**layer
        parts.append((np.full_like(smaller, layer), smaller, larger, 2 * layer + kind))
    layer, smaller, larger, factor = (np.concatenate(part) for part in zip(*parts, strict=True))
    return layer, smaller, larger, factor
