"""The time that no statevector simulation of the ring can go below: its multiply-adds at the
machine's own rate.

With the encoding and the first rotations a product state, and the last ring folded into the
observables, L - 1 layers of n rotations of 2**n amplitudes remain, F = (L - 1) n 2**n
multiply-adds. Forward is F, backward the state again, its adjoint, and the gradients, 3 F; the
product state and the observables take about 10 * 2**n. The rate is that of ``matmul`` in the same
round.
"""

from __future__ import annotations

from benchmarks.job import Size
from benchmarks.matmul import WIDTH


def multiply_adds(size: Size) -> int:
    """That a job cannot avoid."""
    rotations = (size.n_layers - 1) * size.n_qubits * 2**size.n_qubits
    return size.batch * (4 * rotations + 10 * 2**size.n_qubits)


def least_seconds(size: Size, matmul_seconds: float) -> float:
    """The time of a job, if a matrix product takes that long."""
    return multiply_adds(size) / WIDTH**3 * matmul_seconds
