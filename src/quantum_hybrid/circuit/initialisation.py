"""Where a circuit's weights start from: the angles around which they are drawn.

From an ansatz to angles ``(layers, n)``, two ways:

- ``identity``: zero. The rotations are near the identity, where gradients do not vanish with the
  number of qubits for want of randomness (Grant et al. 2019, arXiv:1903.05076). But through a ring
  or a chain an output is then about a product of up to n cosines of inputs, which vanishes with n.
- ``local``: an output is about a product of few sines of inputs, for any n.

The second works because CNOTs spread Z to the qubits before and X to the qubits after: where the
former makes a parity of many qubits of what is measured, the latter takes it apart again. So all
rotations of one layer are turned to -pi/2, which takes Z to X. Measuring parity ``Z_0 ... Z_i`` is
then measuring ``X_0 ... X_i``, and before a ring this was ``X_0 X_(i+1)``: the neighbours' factors
cancel. See docs/circuit.md.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit.ansatz import Ansatz

INITIALISATIONS = ("identity", "local")


def starting_angles(ansatz: Ansatz, init: str) -> Float[Tensor, "layers qubits"]:
    """The mean of the weights at the start, in double precision.

    Raises:
        ValueError: the name is unknown, or ``local`` is asked for a single layer of CNOTs.
    """
    angles = torch.zeros(ansatz.n_layers, ansatz.n_qubits, dtype=torch.float64)
    if init not in INITIALISATIONS:
        raise ValueError(f"init={init!r} is unknown; allowed: {', '.join(INITIALISATIONS)}")
    if init == "identity":
        return angles
    if ansatz.n_layers == 1:
        raise ValueError(
            "init='local' needs n_layers of at least 2, got n_layers=1: a single layer's outputs "
            "are products of up to n_qubits cosines wherever its weights are; use init='identity'"
        )
    layer, factors = turned_layer(ansatz)
    angles[layer] = -math.pi / 2
    # The slope of sin(phi)^k, k being the mean number of factors, is steepest here.
    k = sum(factors) / len(factors)
    angles[0] += math.atan(math.sqrt(k - 1))
    return angles


def turned_layer(ansatz: Ansatz) -> tuple[int, list[int]]:
    """The layer to turn, for which outputs have the fewest factors, and their number for each."""
    best: tuple[int, list[int]] = (0, [])
    for layer in range(ansatz.n_layers - 1, 0, -1):
        factors = []
        for output in range(ansatz.n_qubits):
            qubits = {output}
            for _ in range(ansatz.n_layers - layer):
                qubits = _before_entangler(ansatz, qubits, measured="Z")
            for _ in range(layer):
                qubits = _before_entangler(ansatz, qubits, measured="X")
            factors.append(len(qubits))
        if not best[1] or sum(factors) < sum(best[1]):
            best = layer, factors
    return best


def _before_entangler(ansatz: Ansatz, qubits: set[int], measured: str) -> set[int]:
    """The qubits whose product of Z (of X) before the entangler is that of these after it: a CNOT
    takes Z of its target to both, and X of its control."""
    qubits = set(qubits)
    for control, target in reversed(ansatz.cnots):
        if measured == "Z" and target in qubits:
            qubits ^= {control}
        if measured == "X" and control in qubits:
            qubits ^= {target}
    return qubits
