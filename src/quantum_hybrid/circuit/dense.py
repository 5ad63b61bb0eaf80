"""One orthogonal matrix for the whole batch, in plain torch: small circuits, large batches.

The whole batch has the same weights, so with a single encoding everything after the first rotations
is one real orthogonal ``2**n x 2**n`` matrix, built once a call. Encoding and first rotations are
one product state for each sample. Convention, values and gradients are those of ``statevector``.
"""

from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.circuit import statevector
from quantum_hybrid.circuit.ansatz import Ansatz

MAX_QUBITS = 10
STATES_KEPT = 4
"""States in the graph of one sample: the product state, its image, and the square of each."""


def check(ansatz: Ansatz) -> None:
    """Refuse a circuit that does not fit, or whose matrix depends on the sample.

    Raises:
        ValueError: there are too many qubits, or the circuit re-uploads.
    """
    if ansatz.n_qubits > MAX_QUBITS:
        size_mib = 2.0 ** (2 * ansatz.n_qubits + 2 - 20)
        raise ValueError(
            f"n_qubits={ansatz.n_qubits} is too large for engine='dense': its matrix takes "
            f"{size_mib:.4g} MiB in float32; allowed: 1 to {MAX_QUBITS}; use engine='statevector'"
        )
    if ansatz.reupload:
        raise ValueError(
            "reupload=True is not supported by engine='dense': each layer depends on the sample, "
            "so there is no matrix to share; use engine='statevector'"
        )


def expectations(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch qubits"]:
    """Pauli-Z expectation of every qubit after the circuit, in [-1, 1]."""
    matrix = layers_matrix(ansatz, weights) if ansatz.n_layers > 1 else None

    def run(rows: Tensor) -> Tensor:
        state = _evolve(rows, weights, matrix)
        return statevector.expectations_parity(state, ansatz.readout)

    return statevector.in_chunks(run, ansatz, inputs, weights, STATES_KEPT)


def final_state(
    ansatz: Ansatz, inputs: Float[Tensor, "batch qubits"], weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "batch basis"]:
    """The state that is measured, of norm 1."""
    matrix = layers_matrix(ansatz, weights) if ansatz.n_layers > 1 else None
    return statevector.apply_entangler(ansatz, _evolve(inputs, weights, matrix))


def _evolve(inputs: Tensor, weights: Tensor, matrix: Tensor | None) -> Tensor:
    """The state before the last entangler."""
    state = statevector.product_state(inputs + weights[0])
    return state if matrix is None else state @ matrix


def layers_matrix(
    ansatz: Ansatz, weights: Float[Tensor, "layers qubits"]
) -> Float[Tensor, "basis basis"]:
    """The matrix of all gates from the first to the last entangler, without the latter; L >= 2.

    Row ``b`` is the image of basis state ``b``, so the matrix multiplies states from the right.
    """
    rotation = statevector.rotation_matrix(weights[1])
    # The entangler comes first: column b of rotation times entangler is the column of rotation to
    # which the entangler sends b. No product is needed.
    rows = statevector.apply_entangler(ansatz, rotation, inverse=True).mT
    return statevector.evolve(ansatz, rows, statevector.blocks_by_layer(weights[2:]))
