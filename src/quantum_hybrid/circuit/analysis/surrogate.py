"""A circuit as its exact classical polynomial: 3**n coefficients for each output, no quantum state.

With a single encoding the state is U RY(x_0) (x) ... (x) RY(x_{n-1}) |0...0>, so each output is the
expectation of one observable in a product of the states (I + cos x_i Z + sin x_i X) / 2. It is
exactly multilinear in the vectors (1, cos x_i, sin x_i):

    f_k(x) = sum over p in {0, 1, 2}^n of c[p, k] prod_i (1, cos x_i, sin x_i)[p_i]

The coefficients are not fitted. Three angles for each input, 0 and +- 2 pi / 3, determine them: the
circuit is run on the product grid of 3**n points, in float64, and a discrete Fourier transform of
three points is applied along each input.

A trained circuit that has such a polynomial can be simulated classically at that size: its
predictions need no quantum computer. This is the classical surrogate of Schreiber, Eisert & Meyer
2022 (arXiv:2206.11740); Landman et al. 2022 (arXiv:2210.13200) sample the same terms at random
instead of keeping them all.
"""

from __future__ import annotations

import hashlib
import math
import os
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quantum_hybrid.circuit.layer import FLOAT_DTYPES, QuantumLayer

MAX_QUBITS = 10
"""Here an output has 59,049 coefficients; each further qubit multiplies the memory by 3.3."""
ZERO = 1e-12
"""Largest coefficient that counts as zero. Coefficients that are exactly zero come out below 1e-15.
"""
CHUNK_BYTES = 4 * 2**20
"""Size of the partial sums of one chunk of samples."""
FORMAT, VERSION = "quantum-hybrid surrogate", "1"


class SurrogateError(NamedTuple):
    """Difference between a surrogate's outputs and a layer's."""

    largest: float
    """Largest absolute difference."""
    rms: float
    """Root of the mean square over samples and outputs."""


class Surrogate(nn.Module):
    """A trained layer's outputs as an exact polynomial in the cosines and sines of its inputs.

    ``coefficients`` is a buffer of shape ``(3**n, n)``, one column for each output. The base-3
    digits of a row's number, qubit 0 the most significant, give the factor of each input: 0 for 1,
    1 for its cosine, 2 for its sine. ``coefficients.view(*n * (3,), n)`` has one axis for each
    input.

    Raises:
        ValueError: coefficients are not of shape (3**n, n) for an n from 1 to 10, or not finite.
        TypeError: coefficients are not float32 or float64.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        n_qubits = coefficients.shape[-1] if coefficients.ndim else 0
        if not 1 <= n_qubits <= MAX_QUBITS or coefficients.shape != (3**n_qubits, n_qubits):
            raise ValueError(
                f"coefficients has shape {tuple(coefficients.shape)}; allowed: (3**n, n) for n "
                f"from 1 to {MAX_QUBITS}"
            )
        _check_dtype("coefficients", coefficients.dtype)
        if not coefficients.isfinite().all():
            raise ValueError("coefficients holds a NaN or an infinity; allowed: finite numbers")
        self.n_qubits = n_qubits
        self.register_buffer("coefficients", coefficients)

    @classmethod
    @torch.no_grad()
    def of(cls, layer: QuantumLayer) -> Surrogate:
        """The polynomial of a layer with its present weights, in float64 on the CPU.

        Raises:
            ValueError: the layer has more than ``MAX_QUBITS`` qubits, re-uploads, or has weights
                that are not finite.
        """
        from quantum_hybrid.circuit import native  # Importing Numba takes half a second.

        ansatz = layer.ansatz
        if ansatz.n_qubits > MAX_QUBITS:
            raise ValueError(
                f"n_qubits={ansatz.n_qubits} is too large for a surrogate, which has 3**n "
                f"coefficients an output; allowed: 1 to {MAX_QUBITS}"
            )
        if ansatz.reupload:
            raise ValueError(
                "reupload=True is not supported by a surrogate: inputs encoded once a layer have "
                "frequencies up to n_layers, and (1, cos x, sin x) has only the first; allowed: "
                "reupload=False"
            )
        weights = layer.weights.detach().to("cpu", torch.float64)
        if not weights.isfinite().all():
            raise ValueError("weights of the layer hold a NaN or an infinity; allowed: finite")
        return cls(_transform(native.expectations(ansatz, _grid(ansatz.n_qubits), weights)))

    def forward(self, inputs: Tensor) -> Float[Tensor, "*batch qubits"]:
        """The layer's outputs ``(..., n)`` for angles ``(..., n)`` in radians, differentiable.

        It computes in the dtype of the inputs, in chunks of samples, so memory is bounded. The
        backward pass recomputes each chunk's sums.

        Raises:
            ValueError: the last dimension is not n.
            TypeError: inputs are not float32 or float64.
        """
        n = self.n_qubits
        if inputs.ndim == 0 or inputs.shape[-1] != n:
            raise ValueError(
                f"inputs has shape {tuple(inputs.shape)}; allowed: (..., {n}), one angle a qubit"
            )
        _check_dtype("inputs", inputs.dtype)
        rows = inputs.reshape(-1, n)
        evaluate = partial(_evaluate, self.coefficients.to(inputs.dtype))
        bytes_a_row = 3 ** (n - n // 2) * n * inputs.element_size()
        chunks = rows.split(max(1, CHUNK_BYTES // bytes_a_row))
        if len(chunks) > 1 and torch.is_grad_enabled() and inputs.requires_grad:
            # No random numbers are drawn here, so there is no generator state to restore.
            evaluate = partial(checkpoint, evaluate, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([evaluate(chunk) for chunk in chunks]).view(inputs.shape)

    @torch.no_grad()
    def error(self, layer: QuantumLayer, inputs: Tensor) -> SurrogateError:
        """Difference from the layer's own outputs for inputs ``(..., n)``, in the layer's dtype."""
        exact = self(inputs.to(self.coefficients))
        difference = layer(inputs).to(exact) - exact
        return SurrogateError(
            difference.abs().max().item(), difference.square().mean().sqrt().item()
        )

    def n_nonzero(self) -> int:
        """Number of the n 3**n coefficients whose absolute value exceeds ``ZERO``."""
        return int((self.coefficients.abs() > ZERO).sum())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the coefficients as one safetensors file."""
        coefficients = self.coefficients.detach().cpu().contiguous()
        metadata = {"format": FORMAT, "version": VERSION, "sha256": _sha256(coefficients)}
        save_file({"coefficients": coefficients}, path, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Surrogate:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a surrogate, has another version, or is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                _check_metadata(metadata)
                coefficients = file.get_tensor("coefficients")
            if _sha256(coefficients) != metadata.get("sha256"):
                raise ValueError("its SHA-256 does not match: it is damaged")
            return cls(coefficients)
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"{os.fspath(path)} is not a surrogate that can be read: {error}"
            ) from None

    def extra_repr(self) -> str:
        return (
            f"n_qubits={self.n_qubits}, coefficients={self.coefficients.numel()}, "
            f"not zero={self.n_nonzero()}"
        )


def _grid(n_qubits: int) -> Float[Tensor, "points qubits"]:
    angles = torch.tensor([0.0, 2 * math.pi / 3, -2 * math.pi / 3], dtype=torch.float64)
    return torch.cartesian_prod(*n_qubits * [angles]).view(-1, n_qubits)


def _transform(values: Float[Tensor, "points qubits"]) -> Float[Tensor, "points qubits"]:
    """From values on the grid to coefficients: three-point transforms, one input after another."""
    root = math.sqrt(3)
    rows = [[1, 1, 1], [2, -1, -1], [0, root, -root]]
    inverse = torch.tensor(rows, dtype=values.dtype) / 3
    n_points, n_qubits = values.shape
    for qubit in range(n_qubits):
        values = inverse @ values.reshape(3**qubit, 3, -1)
    return values.reshape(n_points, n_qubits)


def _evaluate(coefficients: Tensor, inputs: Tensor) -> Float[Tensor, "batch qubits"]:
    """The polynomial: the first half of the inputs in one matrix product, then the second half."""
    n_qubits = inputs.shape[1]
    high, low = _monomials(inputs[:, : n_qubits // 2]), _monomials(inputs[:, n_qubits // 2 :])
    partial_sums = high @ coefficients.view(high.shape[1], -1)
    sums = partial_sums.view(len(inputs), low.shape[1], n_qubits)
    return (low[:, None] @ sums).squeeze(1)


def _monomials(inputs: Float[Tensor, "batch qubits"]) -> Float[Tensor, "batch terms"]:
    """Products of (1, cos x_i, sin x_i), the factor of input 0 varying slowest."""
    terms = inputs.new_ones(len(inputs), 1)
    for column in inputs.unbind(1):
        factors = torch.stack([torch.ones_like(column), column.cos(), column.sin()], 1)
        terms = (terms[:, :, None] * factors[:, None]).flatten(1)
    return terms


def _check_metadata(metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}; allowed: {FORMAT!r}")
    if metadata.get("version") != VERSION:
        raise ValueError(f"its version is {metadata.get('version')!r}; allowed: {VERSION!r}")


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def _check_dtype(name: str, dtype: torch.dtype) -> None:
    if dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} is {dtype}; allowed: torch.float32, torch.float64")
