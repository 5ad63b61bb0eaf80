"""The circuit as a torch layer: angles in, Pauli-Z expectations out, weights learned.

From ``(..., n)`` to ``(..., n)`` in [-1, 1], in float32 or float64. The layer checks its arguments,
flattens the leading dimensions and calls an engine; all engines give the same values and gradients.
A new engine is a module with ``check`` and ``expectations``, and a row in ``_ENGINES``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantum_hybrid.circuit import dense, statevector
from quantum_hybrid.circuit.ansatz import Ansatz
from quantum_hybrid.circuit.initialisation import starting_angles

FLOAT_DTYPES = (torch.float32, torch.float64)


@runtime_checkable
class Engine(Protocol):
    """The functions that a module must have to be an engine."""

    def check(self, ansatz: Ansatz) -> None:
        """Raise a ValueError if the circuit does not fit or is not supported."""

    def expectations(self, ansatz: Ansatz, inputs: Tensor, weights: Tensor) -> Tensor:
        """Outputs ``(batch, n)`` for inputs ``(batch, n)`` and weights ``(layers, n)``."""
        ...


def _load_native() -> Engine:
    # Importing Numba takes half a second.
    from quantum_hybrid.circuit import native

    return native


def _load_tensor_network() -> Engine:
    # It imports Numba too.
    from quantum_hybrid.circuit import tensor_network

    return tensor_network


def _load_pennylane() -> Engine:
    # Importing PennyLane takes seconds, and it need not be installed.
    from quantum_hybrid.circuit import pennylane

    return pennylane


_ENGINES: dict[str, Callable[[], Engine]] = {
    "native": _load_native,
    "dense": lambda: dense,
    "statevector": lambda: statevector,
    "tensor_network": _load_tensor_network,
    "pennylane": _load_pennylane,
}

ENGINES = ("auto", *_ENGINES)


class QuantumLayer(nn.Module):
    """A variational circuit as a layer.

    The only parameter, and the only entry of the state_dict, is ``weights`` of shape
    ``(n_layers, n_qubits)``: rotation angles in radians.

    Initial weights are normal with mean 0 and standard deviation ``init_std``. This is near the
    identity, where gradients do not vanish with the number of qubits (Grant et al. 2019,
    arXiv:1903.05076; Zhang et al. 2022, arXiv:2203.09376). Exactly 0 would be a point of symmetry:
    at inputs of 0 no weight would have a gradient. Without an entangler output ``i`` depends only
    on the sum of the weights of qubit ``i``.

    Above about 20 qubits outputs near the identity vanish nevertheless, since they are products of
    up to n cosines of inputs. ``init="local"`` starts around angles at which outputs are products
    of few sines, for inputs around 0; ``init_std`` should then be well below ``n_qubits**-0.5``.

    Args:
        n_qubits: number of inputs and of outputs.
        n_layers: number of rotation-plus-entangler layers.
        entangler: ``ring``, ``chain`` or ``none``; see `Ansatz`.
        reupload: encode the inputs again before every layer.
        engine: ``auto``, ``native``, ``dense``, ``statevector``, ``tensor_network`` or
            ``pennylane``. ``auto`` takes the faster of ``native`` and ``tensor_network`` on the
            CPU, elsewhere the fastest torch engine for the batch. Above 24 qubits there is only
            ``tensor_network``.
        dtype: of the weights, float32 or float64; torch's default if None.
        device: of the weights.
        generator: source of the initial weights; torch's default one if None.
        init_std: standard deviation of the initial weights, radians.
        init: the angles around which they are drawn, ``identity`` or ``local``.

    Raises:
        ValueError, TypeError: an argument is not allowed, or the circuit does not fit in memory.
            The message names the argument, its value and the allowed values.
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
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.ansatz = Ansatz(n_qubits, n_layers, entangler, reupload)
        self.engine = engine
        if engine not in ENGINES:
            raise ValueError(f"engine={engine!r} is unknown; allowed: {', '.join(ENGINES)}")
        self._cpu_engine = _cpu_engine(self.ansatz) if engine == "auto" else engine
        _ENGINES[self._cpu_engine]().check(self.ansatz)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        _check_dtype("dtype", dtype)
        if not 0 <= init_std < float("inf"):
            raise ValueError(f"init_std={init_std} is out of range; allowed: 0 or more, finite")
        self.init_std, self.init = init_std, init
        self._weights_shape = (n_layers, n_qubits)
        self.weights = nn.Parameter(torch.empty(n_layers, n_qubits, dtype=dtype, device=device))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new initial weights from the generator; from torch's default one if None."""
        mean = starting_angles(self.ansatz, self.init).to(self.weights)
        nn.init.normal_(self.weights, std=self.init_std, generator=generator)
        with torch.no_grad():
            self.weights.add_(mean)

    def forward(self, inputs: Tensor) -> Float[Tensor, "*batch qubits"]:
        """Pauli-Z expectations ``(..., n)`` in [-1, 1] for angles ``(..., n)`` in radians.

        A NaN or an infinity in a sample makes this sample's outputs NaN, and the gradient of the
        weights. The circuit runs in the dtype of the weights; under ``torch.autocast``
        half-precision inputs are cast to it.

        Raises:
            ValueError: the last dimension is not ``n_qubits``.
            TypeError: the inputs are not a tensor, or not of the dtype of the weights.
        """
        weights = self.weights
        rows = self._rows(inputs, weights)
        kind = rows.device.type
        engine = _ENGINES[self.engine_for(rows.shape[0], kind)]()
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                outputs = engine.expectations(self.ansatz, rows, weights)
        else:
            outputs = engine.expectations(self.ansatz, rows, weights)
        return outputs if inputs.ndim == 2 else outputs.reshape(inputs.shape)

    def final_state(self, inputs: Tensor) -> Float[Tensor, "*batch basis"]:
        """The real state ``(..., 2**n)`` that is measured, of norm 1; errors as in forward.

        It is the same for every engine, and differentiable.
        """
        rows = self._rows(inputs, self.weights)
        statevector.check(self.ansatz)
        module = dense if self._state_engine(rows.shape[0]) == "dense" else statevector
        with torch.autocast(rows.device.type, enabled=False):
            state = module.final_state(self.ansatz, rows, self.weights)
        return state.reshape(*inputs.shape[:-1], state.shape[-1])

    def engine_for(self, batch: int, device: torch.device | str = "cpu") -> str:
        """The engine that runs a batch of this size on this device."""
        if self.engine != "auto":
            return self.engine
        if device == "cpu" or torch.device(device).type == "cpu":
            return self._cpu_engine
        if not _can("statevector", self.ansatz):
            return "tensor_network"
        return self._state_engine(batch)

    def _state_engine(self, batch: int) -> str:
        """The torch engine that holds a state."""
        if self.engine in ("dense", "statevector"):
            return self.engine
        threshold = _dense_batch(self.ansatz)
        return "statevector" if threshold is None or batch < threshold else "dense"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Refuse weights of another shape with a ValueError; torch would raise a RuntimeError."""
        weights = state_dict.get(prefix + "weights")
        if isinstance(weights, Tensor) and weights.shape != self._weights_shape:
            self._refuse_weights(prefix + "weights", weights)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _refuse_weights(self, name: str, weights: Tensor) -> None:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)}; allowed: {self._weights_shape}, "
            "(n_layers, n_qubits)"
        )

    def extra_repr(self) -> str:
        ansatz = self.ansatz
        engine = f"engine={self.engine!r}"
        if self.engine == "auto":
            threshold = _dense_batch(ansatz)
            above = "" if threshold is None else f", dense from batch {threshold}"
            elsewhere = f"statevector{above}" if _can("statevector", ansatz) else "tensor_network"
            on_cpu = self._cpu_engine
            both = on_cpu if on_cpu == elsewhere else f"{on_cpu} on the CPU, else {elsewhere}"
            engine = f"engine='auto' ({both})"
        init = "" if self.init == "identity" else f", init={self.init!r}"
        return (
            f"n_qubits={ansatz.n_qubits}, n_layers={ansatz.n_layers}, "
            f"entangler={ansatz.entangler!r}, reupload={ansatz.reupload}, {engine}{init}"
        )

    def _rows(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Inputs as ``(batch, n)``, checked."""
        n_qubits = self.ansatz.n_qubits
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs is a {type(inputs).__name__}; allowed: a torch.Tensor")
        if inputs.ndim == 0 or inputs.shape[-1] != n_qubits:
            raise ValueError(
                f"inputs has shape {tuple(inputs.shape)}; allowed: (..., {n_qubits}), "
                "one angle for each of n_qubits"
            )
        if weights.shape != self._weights_shape:  # a kernel would read past the end of the array
            self._refuse_weights("weights", weights)
        dtype = weights.dtype
        _check_dtype("weights", dtype)
        if inputs.dtype != dtype:
            inputs = self._cast(inputs, dtype)
        return inputs if inputs.ndim == 2 else inputs.reshape(-1, n_qubits)

    def _cast(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        half = inputs.dtype in (torch.float16, torch.bfloat16)
        if half and torch.is_autocast_enabled(inputs.device.type):
            return inputs.to(dtype)
        raise TypeError(
            f"inputs has dtype {inputs.dtype}; allowed: {dtype}, that of weights "
            "(under torch.autocast also float16 and bfloat16)"
        )


def _can(engine: str, ansatz: Ansatz) -> bool:
    try:
        _ENGINES[engine]().check(ansatz)
    except ValueError:
        return False
    return True


def _cpu_engine(ansatz: Ansatz) -> str:
    """The fastest engine on the CPU; if none supports the circuit, one whose ``check`` says why.

    Measured: forward and backward in float32 on one thread, least of 8 to 25 interleaved runs,
    batches of 1, 32 and 512. A bond of 2**b costs `tensor_network` 4**b a qubit, so it is level
    with `native` at about 2 b + 2 qubits. Its time divided by that of `native`, batches 32 and 512,
    with AVX2: for a ring of 3 layers (b = 4) 1.44 and 1.42 at n = 9, 1.13 and 0.68 at 10, 0.52 and
    0.19 at 12; of 4 layers (b = 6) 0.83 and 0.76 at 13, 0.44 and 0.40 at 14; for a chain of 3
    layers (b = 2) 1.35 and 0.97 at 8, 1.23 and 0.60 at 9. With AVX-512 a ring of 4 layers was level
    at 13. For a single sample most of the time is spent outside the kernels, and the rule costs up
    to 0.1 ms. Its time divided by that of `statevector`: up to b = 6 at most 0.5 from n = 4 on; at
    b = 8 it is 1.2 at n = 10 and 0.75 at 12.
    """
    holds_state = next((name for name in ("native", "statevector") if _can(name, ansatz)), None)
    if holds_state is None or not _can("tensor_network", ansatz):
        return holds_state or "tensor_network"
    bits = ansatz.n_layers - 1 if ansatz.entangler == "chain" else 2 * (ansatz.n_layers - 1)
    if not ansatz.cnots:
        crossover = 1
    elif holds_state == "native":
        crossover = max(9, 2 * bits + 2)
    else:
        crossover = 1 if bits <= 6 else 2 * bits - 3
    return "tensor_network" if ansatz.n_qubits >= crossover else holds_state


def _dense_batch(ansatz: Ansatz) -> int | None:
    """The smallest batch for which ``dense`` is faster than ``statevector``; None if there is none.

    Measured: forward and backward in float32 on one CPU thread, fastest of 5 to 40 interleaved
    runs, n = 2 to 10, L = 3 and 6, batches of 32 to 4096. Up to four qubits ``statevector`` takes
    one matrix product a layer already. From five qubits on, building the matrix costs about as much
    as running 2**n samples, and ``dense`` was faster from batches between 2 * 2**n and 8 * 2**n on
    (256 at n = 5, 1024 at n = 8 for L = 3; earlier for more layers). With fewer than three layers
    there is too little to merge.
    """
    merges = 5 <= ansatz.n_qubits <= dense.MAX_QUBITS and ansatz.n_layers >= 3
    return 4 * 2**ansatz.n_qubits if merges and not ansatz.reupload else None


def _check_dtype(name: str, dtype: torch.dtype) -> None:
    if dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} is {dtype}; allowed: torch.float32, torch.float64")
