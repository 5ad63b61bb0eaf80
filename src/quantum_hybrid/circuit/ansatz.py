"""The description of a circuit, and what follows from it. Nothing here runs a circuit.

A circuit on ``n`` qubits encodes ``n`` angles ``x`` and holds weights ``theta`` of shape
``(layers, n)``:

1. ``RY(x_i)`` on every qubit ``i`` (before every layer if ``reupload``, else once).
2. In each layer ``l``: ``RY(theta[l, i])`` on every qubit, then the entangler's CNOTs in order.
3. The outputs are the ``n`` expectation values of Pauli-Z.

Convention: qubit 0 is the most significant bit of the basis index, as in PennyLane, and
``RY(t) = [[cos t/2, -sin t/2], [sin t/2, cos t/2]]``.

CNOTs permute the basis linearly over GF(2) (Aaronson & Gottesman 2004, arXiv:quant-ph/0406196). So
an entangler is an index into the state, not a matrix product. An entangler before a Z measurement
turns each Z into a product of Z, at no cost.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

MAX_QUBITS = 512
MAX_LAYERS = 10_000
ENTANGLERS = ("ring", "chain", "none")


@dataclass(frozen=True)
class Ansatz:
    """A hardware-efficient circuit of real gates.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range. Both messages name the field, its value and the allowed
            values.
    """

    n_qubits: int
    """Number of qubits, inputs and outputs: 1 to ``MAX_QUBITS``; an engine may allow fewer."""

    n_layers: int
    """Number of rotation-plus-entangler layers: 1 to ``MAX_LAYERS``; an engine may allow fewer."""

    entangler: str = "ring"
    """``chain``: CNOT(0,1), CNOT(1,2), ..., CNOT(n-2,n-1). ``ring``: the chain, then CNOT(n-1,0).
    ``none``: no CNOT. A single qubit has no CNOT with any entangler."""

    reupload: bool = False
    """Encode the inputs again before every layer (Perez-Salinas et al. 2020,
    arXiv:1907.02085)."""

    def __post_init__(self) -> None:
        _check_count("n_qubits", self.n_qubits, MAX_QUBITS)
        _check_count("n_layers", self.n_layers, MAX_LAYERS)
        if self.entangler not in ENTANGLERS:
            allowed = ", ".join(ENTANGLERS)
            raise ValueError(f"entangler={self.entangler!r} is unknown; allowed: {allowed}")
        if not isinstance(self.reupload, bool):
            raise TypeError(f"reupload={self.reupload!r} must be True or False")

    @property
    def cnots(self) -> tuple[tuple[int, int], ...]:
        """(control, target) of the CNOTs of one layer, in the order in which they act."""
        n = self.n_qubits
        if self.entangler == "none" or n == 1:
            return ()
        chain = tuple((i, i + 1) for i in range(n - 1))
        return chain if self.entangler == "chain" else (*chain, (n - 1, 0))

    @property
    def readout(self) -> tuple[tuple[int, ...], ...]:
        """The qubits whose parity, measured before the last entangler, is output ``i`` after it.

        For the ring: output 0 reads qubits 1 to n-1, output ``i`` reads qubits 0 to ``i``.
        """
        return self._parities_before(1)

    @property
    def encoded_parities(self) -> tuple[tuple[int, ...], ...]:
        """The qubits whose parity, measured before the first entangler, would be output ``i``.

        If all rotations from layer 1 on are zero, output ``i`` is the product of
        ``cos(x_j + theta[0, j])`` over these qubits j.
        """
        return self._parities_before(self.n_layers)

    def _parities_before(self, n_entanglers: int) -> tuple[tuple[int, ...], ...]:
        """The qubits of Z on each qubit, pulled back through this many entanglers."""
        # A CNOT turns Z on its target into Z on control and target; Z Z on one qubit is 1.
        parities = [{i} for i in range(self.n_qubits)]
        for control, target in self.cnots * n_entanglers:
            parities[target] = parities[target] ^ parities[control]
        return tuple(tuple(sorted(qubits)) for qubits in parities)


def entangler_sources(ansatz: Ansatz) -> Int[Tensor, " basis"]:
    """The basis state that each amplitude comes from.

    ``state[entangler_sources(ansatz)]`` is the state after the CNOTs of one layer.
    """
    return _apply_cnots(ansatz.n_qubits, ansatz.cnots[::-1])


def entangler_targets(ansatz: Ansatz) -> Int[Tensor, " basis"]:
    """The basis state that each one is mapped to: the inverse of `entangler_sources`."""
    return _apply_cnots(ansatz.n_qubits, ansatz.cnots)


def _apply_cnots(n_qubits: int, cnots: tuple[tuple[int, int], ...]) -> Tensor:
    index = torch.arange(2**n_qubits, dtype=torch.int64, device="cpu")
    for control, target in cnots:
        control_bit = (index >> (n_qubits - 1 - control)) & 1
        index ^= control_bit << (n_qubits - 1 - target)
    return index


def _check_count(name: str, value: object, largest: int) -> None:
    allowed = f"an integer from 1 to {largest}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    if not 1 <= value <= largest:
        raise ValueError(f"{name}={value!r} is out of range; allowed: {allowed}")
