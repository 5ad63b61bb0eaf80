"""How Pauli strings pass a site: the transitions that the `tensor_network` engine adds up.

From an ansatz to lists of transitions; nothing here depends on an angle. docs/circuit.md derives
them. A *site* is one qubit through all layers. The circuit is read from its end: the operator
measured there, Z or the identity, is transformed by the last rotation, then by an entangler, then
by the rotation before it, and so on down to the encoded state. The first rotations are part of that
state and the last entangler is part of the measurement, so ``L`` rotations and ``L - 1`` entanglers
remain. Operators are written ``X^x Z^z``: entanglers map them to each other without a sign, and a
rotation by ``t`` maps

    Z -> cos t Z - sin t X,    X -> cos t X + sin t Z,    1 -> 1,    XZ -> XZ.

An entangler maps the strings ``x``, ``z`` to ``x_j + x_(j-1)`` and ``S_j = z_j + S_(j+1)`` at
qubit ``j``. A qubit hands on to the next one a *state*: for each entangler the bits ``x_j`` and
``S_(j+1)``. The ring's last CNOT joins the ends: a *sector* fixes ``x_(n-1)`` and ``z_0`` of each
entangler, in the same bits, and outputs are sums over the sectors.

Every transition has a *coefficient*, a product of one factor 1, cos or sin for each layer. Its
number has a base-3 digit for each layer, layer 0 least significant: 0 for 1, 1 for cos, 2 for sin.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_EVEN_BITS = 0x5555_5555
"""Mask of the even bits. Bit 2k of a state (sector) is S (z_0) at entangler k, bit 2k + 1 is x."""


class Transitions(NamedTuple):
    """One entry a transition: ``target`` += plus or minus the coefficient times ``source``."""

    source: Ints
    """State before the qubit; for the first qubit the sector."""
    target: Ints
    """State after the qubit."""
    coefficient: Ints
    negative: Ints
    """1 where the coefficient is subtracted, else 0."""


class Site(NamedTuple):
    """All transitions of a qubit on which Z is measured, and on which the identity is measured."""

    z: Transitions
    identity: Transitions


class Transfer(NamedTuple):
    """All transitions for a number of layers and an entangler; the same for every n from 2 on."""

    n_states: int
    n_sectors: int
    """4 to the power of the entanglers for a ring, 1 for a chain."""
    first: Site
    """Qubit 0, from a sector."""
    later: Site
    """Any other qubit, from a state."""
    last: Bools
    """(sectors, states): whether a state is allowed after the last qubit."""
    odd: Bools
    """(states,): parity of the sum of ``x S`` over the entanglers. No transition changes it, since
    a symmetric operator stays symmetric, so half of a sector's states are never reached."""


@lru_cache(maxsize=16)
def transfer_of(n_layers: int, entangler: str) -> Transfer:
    """The transitions for ``ring`` or ``chain``."""
    n_states = 4 ** (n_layers - 1)
    states = np.arange(n_states)
    if entangler == "ring":
        first, last = _first_of_ring, np.eye(n_states, dtype=bool)
    else:
        first, last = _first_of_chain, (states & _EVEN_BITS == 0)[None]
    return Transfer(
        n_states=n_states,
        n_sectors=len(last),
        first=Site(_paths(n_layers, 1, first), _paths(n_layers, 0, first)),
        later=Site(_paths(n_layers, 1, _later), _paths(n_layers, 0, _later)),
        last=last,
        odd=np.bitwise_count(states & states >> 1 & _EVEN_BITS) % 2 == 1,
    )


class _Crossing(NamedTuple):
    """An entangler at one qubit: its two bits of source and target, and the operator before it."""

    source: Ints
    target: Ints
    x: Ints
    z: Ints


_Entangler = Callable[[Ints, Ints, int, int], _Crossing | None]
"""From the operator's ``x`` and ``z`` after the entangler and two free bits; None if the bits are
not allowed."""


def _later(x: Ints, z: Ints, x_before: int, s: int) -> _Crossing:
    # s is S_j of the source; S_(j+1) = S_j + z_j follows.
    source = np.full_like(x, 2 * x_before + s)
    return _Crossing(source, 2 * x + (s ^ z), x ^ x_before, np.full_like(z, s))


def _first_of_chain(x: Ints, z: Ints, x_before: int, s: int) -> _Crossing | None:
    if x_before:  # there is no qubit before the first one
        return None
    return _later(x, z, 0, s)._replace(source=np.zeros_like(x))


def _first_of_ring(x: Ints, z: Ints, x_last: int, s: int) -> _Crossing:
    """CNOT(n-1, 0) follows the chain. It adds ``x_(n-1)`` to ``x_0``, and ``z_0`` to every S except
    that of qubit 0."""
    return _Crossing(2 * x_last + z, 2 * (x ^ x_last) + s, x ^ x_last, s ^ z)


def _paths(n_layers: int, z: int, entangler: _Entangler) -> Transitions:
    """All transitions of a site on which Z (or, for ``z`` = 0, the identity) is measured."""
    zero = np.zeros(1, dtype=np.int64)
    paths = _Paths(zero, zero + z, zero, zero, zero, zero)
    for layer in range(n_layers - 1, 0, -1):
        paths = _rotate(paths, layer)
        paths = _entangle(paths, layer - 1, entangler)
    paths = _rotate(paths, 0)
    paths = _Paths(*(field[paths.x == 0] for field in paths))  # <0|X|0> = <0|XZ|0> = 0
    return Transitions(paths.source, paths.target, paths.coefficient, paths.negative)


class _Paths(NamedTuple):
    x: Ints
    z: Ints
    source: Ints
    target: Ints
    coefficient: Ints
    negative: Ints


def _rotate(paths: _Paths, layer: int) -> _Paths:
    # X and Z branch into two terms; 1 and XZ commute with RY.
    mixed = paths.x != paths.z
    kept, turning = (_Paths(*(field[mask] for field in paths)) for mask in (~mixed, mixed))
    digit = 3**layer
    cos = turning._replace(coefficient=turning.coefficient + digit)
    sin = turning._replace(
        x=turning.z,
        z=turning.x,
        coefficient=turning.coefficient + 2 * digit,
        negative=turning.negative ^ turning.z,  # -sin t X from Z, +sin t Z from X
    )
    return _joined([kept, cos, sin])


def _entangle(paths: _Paths, number: int, entangler: _Entangler) -> _Paths:
    parts = []
    for x, s in ((0, 0), (0, 1), (1, 0), (1, 1)):
        crossing = entangler(paths.x, paths.z, x, s)
        if crossing is not None:
            source = paths.source | crossing.source << 2 * number
            target = paths.target | crossing.target << 2 * number
            parts.append(paths._replace(x=crossing.x, z=crossing.z, source=source, target=target))
    return _joined(parts)


def _joined(parts: list[_Paths]) -> _Paths:
    return _Paths(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
