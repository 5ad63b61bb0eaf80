"""The circuit as a torch layer: angles in, Pauli-Z expectations out, weights learned.

From ``(..., n)`` to ``(..., n)`` in [-1, 1], in float32 or float64. The layer checks its arguments,
flattens the leading dimensions and hands over to an engine; all engines give the same values and
gradients. A new engine is a module with ``check`` and ``expectations``, and a row in ``_ENGINES``.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.circuit import dense, statevector
from quantum_hybrid.circuit.ansatz import Ansatz

FLOAT_DTYPES = (torch.float32, torch.float64)


@runtime_checkable
class Engine(Protocol):
    """What a module must offer to be an engine."""

    def check(self, ansatz: Ansatz) -> None:
        """Raise a ValueError if the circuit would not fit or cannot be run."""

    def expectations(self, ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
        """Outputs ``(batch, n)`` for inputs ``(batch, n)`` and weights ``(layers, n)``."""
        ...


def _load_native() -> Engine:
    # Numba takes half a second to import.
    from quantum_hybrid.circuit import native

    return native


def _load_pennylane() -> Engine:
    # PennyLane takes seconds to import, and who does not ask for it need not have it.
    from quantum_hybrid.circuit import pennylane

    return pennylane


_ENGINES: dict[str, Callable[[], Engine]] = {
    "native": _load_native,
    "dense": lambda: dense,
    "statevector": lambda: statevector,
    "pennylane": _load_pennylane,
}

ENGINES = ("auto", *_ENGINES)


class QuantumLayer(nn.Module):
    """A variational circuit as a layer.

    The only parameter, and the only entry of the state_dict, is ``weights`` of shape
    ``(n_layers, n_qubits)``: rotation angles in radians.

    Weights start normal with mean 0 and standard deviation ``init_std``, which is near the
    identity, where gradients do not vanish with the number of qubits (Grant et al. 2019,
    arXiv:1903.05076; Zhang et al. 2022, arXiv:2203.09376). Exactly 0 would be a point of symmetry:
    at inputs of 0 no weight would have a gradient. Without an entangler output ``i`` depends only
    on the sum of the weights of qubit ``i``; with one, every weight matters on its own.

    Args:
        n_qubits: inputs and outputs.
        n_layers: rotation-plus-entangler layers.
        entangler: ``ring``, ``chain`` or ``none``; see :class:`Ansatz`.
        reupload: encode the inputs again before every layer.
        engine: ``auto``, ``native``, ``dense``, ``statevector`` or ``pennylane``. ``auto`` takes
            ``native`` on the CPU where it can, else the quicker torch engine for the batch.
        dtype: of the weights, float32 or float64; torch's default if None.
        device: of the weights.
        generator: where the initial weights are drawn from; torch's own if None.
        init_std: standard deviation of the initial weights, radians.

    Raises:
        ValueError, TypeError: an argument is not allowed, or the circuit would not fit in memory.
            The message names the argument, its value and what is allowed.
    """

    def __init__(
        self,
        n_qubits: int = 8,
        n_layers: int = 3,
        entangler: str = "ring",
        reupload: bool = False,
        engine: str = "auto",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.ansatz = Ansatz(n_qubits, n_layers, entangler, reupload)
        self.engine = engine
        if engine not in ENGINES:
            raise ValueError(f"engine={engine!r} is unknown; allowed: {', '.join(ENGINES)}")
        _ENGINES["statevector" if engine == "auto" else engine]().check(self.ansatz)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        _check_dtype("dtype", dtype)
        if not 0 <= init_std < float("inf"):
            raise ValueError(f"init_std={init_std} is out of range; allowed: 0 or more, finite")
        self.init_std = init_std
        self.weights = nn.Parameter(torch.empty(n_layers, n_qubits, dtype=dtype, device=device))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew."""
        nn.init.normal_(self.weights, std=self.init_std, generator=generator)

    def forward(self, inputs: Tensor) -> Float[Tensor, "*batch qubits"]:
        """Pauli-Z expectations ``(..., n)`` in [-1, 1] for angles ``(..., n)`` in radians.

        A sample with a NaN or an infinity gives NaN, for itself alone, but the gradient of the
        weights is then NaN. Under ``torch.autocast`` half-precision inputs are cast up to the
        dtype of the weights, in which the circuit always runs.

        Raises:
            ValueError: the last dimension is not ``n_qubits``.
            TypeError: the dtype of the inputs is not that of the weights.
        """
        rows = self._rows(inputs)
        engine = _ENGINES[self.engine_for(rows.shape[0], rows.device)]()
        if torch.is_autocast_enabled(rows.device.type):
            with torch.autocast(rows.device.type, enabled=False):
                outputs = engine.expectations(self.ansatz, rows, self.weights)
        else:
            outputs = engine.expectations(self.ansatz, rows, self.weights)
        return outputs if inputs.ndim == 2 else outputs.reshape(inputs.shape)

    def final_state(self, inputs: Tensor) -> Float[Tensor, "*batch basis"]:
        """The real state ``(..., 2**n)`` that is measured, for diagnostics; errors as in forward.

        It is the same whatever the engine, and differentiable.
        """
        rows = self._rows(inputs)
        statevector.check(self.ansatz)
        module = dense if self._torch_engine(rows.shape[0]) == "dense" else statevector
        with torch.autocast(rows.device.type, enabled=False):
            state = module.final_state(self.ansatz, rows, self.weights)
        return state.reshape(*inputs.shape[:-1], state.shape[-1])

    def engine_for(self, batch: int, device: torch.device | str = "cpu") -> str:
        """The engine that runs a batch of this size on this device."""
        if self.engine != "auto":
            return self.engine
        if torch.device(device).type == "cpu" and _native_can(self.ansatz):
            return "native"
        return self._torch_engine(batch)

    def _torch_engine(self, batch: int) -> str:
        if self.engine in ("dense", "statevector"):
            return self.engine
        threshold = _dense_batch(self.ansatz)
        return "statevector" if threshold is None or batch < threshold else "dense"

    def extra_repr(self) -> str:
        ansatz = self.ansatz
        engine = f"engine={self.engine!r}"
        if self.engine == "auto":
            threshold = _dense_batch(ansatz)
            above = "" if threshold is None else f", dense from batch {threshold}"
            elsewhere = "native on the CPU, else " if _native_can(ansatz) else ""
            engine = f"engine='auto' ({elsewhere}statevector{above})"
        return (
            f"n_qubits={ansatz.n_qubits}, n_layers={ansatz.n_layers}, "
            f"entangler={ansatz.entangler!r}, reupload={ansatz.reupload}, {engine}"
        )

    def _rows(self, inputs: Tensor) -> Tensor:
        """Inputs as ``(batch, n)``, checked."""
        n_qubits = self.ansatz.n_qubits
        if inputs.ndim == 0 or inputs.shape[-1] != n_qubits:
            raise ValueError(
                f"inputs has shape {tuple(inputs.shape)}; allowed: (..., {n_qubits}), "
                "one angle for each of n_qubits"
            )
        _check_dtype("weights", self.weights.dtype)
        if inputs.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(
            inputs.device.type
        ):
            inputs = inputs.to(self.weights.dtype)
        if inputs.dtype != self.weights.dtype:
            raise TypeError(
                f"inputs has dtype {inputs.dtype}; allowed: {self.weights.dtype}, that of weights "
                "(under torch.autocast also float16 and bfloat16)"
            )
        return inputs if inputs.ndim == 2 else inputs.reshape(-1, n_qubits)


def _native_can(ansatz: Ansatz) -> bool:
    try:
        _load_native().check(ansatz)
    except ValueError:
        return False
    return True


def _dense_batch(ansatz: Ansatz) -> int | None:
    """The batch from which ``dense`` beats ``statevector``, None if it never does.

    Measured: forward and backward in float32 on one CPU thread, fastest of 5 to 40 runs taken in
    turns, n = 2 to 10, L = 3 and 6, batches of 32 to 4096. Up to four qubits the
    statevector is one matrix product a layer already. From five, the matrix costs about as much to
    build as 2**n samples to run, and the batches at which it paid lie between 2 * 2**n and
    8 * 2**n (256 at n = 5, 1024 at n = 8 for L = 3; sooner for more layers). With fewer than three
    layers there is too little to merge.
    """
    merges = 5 <= ansatz.n_qubits <= dense.MAX_QUBITS and ansatz.n_layers >= 3
    return 4 * 2**ansatz.n_qubits if merges and not ansatz.reupload else None


def _check_dtype(name: str, dtype: torch.dtype) -> None:
    if dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} is {dtype}; allowed: torch.float32, torch.float64")
