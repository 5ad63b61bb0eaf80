"""The angles around which a circuit's initial weights are drawn.

From an ansatz to angles ``(layers, n)``, in one of two ways:

- ``identity``: zero. The rotations are near the identity, where gradients do not vanish with the
  number of qubits as they do at random angles (Grant et al. 2019, arXiv:1903.05076). Through a ring
  or a chain, however, an output is about a product of up to n cosines of inputs, which vanishes
  with n.
- ``local``: an output is about a product of few sines of inputs, for any n.

``local`` uses that CNOTs, pulled back, spread Z to the qubits before and X to the qubits after. The
entanglers after a layer turn the measured Z into a parity of many qubits; if that is turned into X,
the entanglers before the layer reduce it to few factors. So all rotations of one layer are set to
-pi/2, which turns Z into X: the parity ``Z_0 ... Z_i`` becomes ``X_0 ... X_i``, and before a ring
that is ``X_0 X_(i+1)``, since the factors of neighbours cancel. See docs/circuit.md.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit.ansatz import Ansatz

INITIALISATIONS = ("identity", "local")


def starting_angles(ansatz: Ansatz, init: str) -> Float[Tensor, "layers qubits"]:
    """The mean of the initial weights, radians, in double precision.

    Raises:
        ValueError: the name is unknown, or it is ``local`` and the circuit has a single layer.
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
    # Here sin(phi)^k is steepest, k being the mean number of factors: tan(phi)^2 = k - 1.
    k = sum(factors) / len(factors)
    angles[0] += math.atan(math.sqrt(k - 1))
    return angles


def turned_layer(ansatz: Ansatz) -> tuple[int, list[int]]:
    """The layer to turn so that outputs have the fewest factors, and each output's number."""
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
    """The qubits of a product of Z (or of X), pulled back through the entangler."""
    # A CNOT takes Z of its target, and X of its control, to both qubits.
    qubits = set(qubits)
    for control, target in reversed(ansatz.cnots):
        if measured == "Z" and target in qubits:
            qubits ^= {control}
        if measured == "X" and control in qubits:
            qubits ^= {target}
    return qubits
