"""Time one circuit layer, forward and backward, in each engine: `make bench`.

All engines get the same weights and inputs, and are checked against each other before they are
timed. Rounds alternate between the engines, and ratios are taken within a round, so that a machine
whose speed drifts does not favour one. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import time

import torch

from quantum_hybrid import QuantumLayer

SIZES = ((8, 3, 1), (8, 3, 32), (8, 3, 256), (8, 3, 1024), (12, 3, 32))
ENGINES = ("native", "dense", "statevector", "pennylane")
REFERENCE = "pennylane"
LARGEST_DENSE = 10
ROUNDS = 5
TOLERANCE = 1e-4


def main() -> None:
    """Print the table and the line of JSON."""
    rows = [row for size in SIZES for row in _measure(*size)]
    print("qubits layers  batch  engine       median ms  speed-up")
    for row in rows:
        print(
            f"{row['n_qubits']:6} {row['n_layers']:6} {row['batch']:6}  {row['engine']:12}"
            f"{row['median_ms']:10.2f}{row['speed_up']:9.1f}x"
        )
    settings = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": ROUNDS}
    print(json.dumps({"benchmark": "circuit", **settings, "rows": rows}))


def _measure(n_qubits: int, n_layers: int, batch: int) -> list[dict[str, object]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, n_qubits, generator=generator)
    engines = [name for name in ENGINES if name != "dense" or n_qubits <= LARGEST_DENSE]
    layers = {name: QuantumLayer(n_qubits, n_layers, engine=name) for name in engines}
    for layer in layers.values():
        layer.load_state_dict(layers[REFERENCE].state_dict())
    _check_agreement(layers, inputs)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, layer in layers.items():
            seconds[name].append(_forward_backward(layer, inputs))
    return [
        {
            "n_qubits": n_qubits,
            "n_layers": n_layers,
            "batch": batch,
            "engine": name,
            "median_ms": round(1000 * statistics.median(seconds[name]), 3),
            "speed_up": round(
                statistics.median(
                    reference / own
                    for reference, own in zip(seconds[REFERENCE], seconds[name], strict=True)
                ),
                2,
            ),
        }
        for name in engines
    ]


def _check_agreement(layers: dict[str, QuantumLayer], inputs: torch.Tensor) -> None:
    """Also the warm-up: the first call of an engine builds what it keeps."""
    expected = layers[REFERENCE](inputs)
    for name, layer in layers.items():
        difference = (layer(inputs) - expected).abs().max().item()
        if difference > TOLERANCE:
            raise SystemExit(f"{name} differs from {REFERENCE} by {difference}: nothing was timed")


def _forward_backward(layer: QuantumLayer, inputs: torch.Tensor) -> float:
    x = inputs.clone().requires_grad_()
    layer.zero_grad()
    started = time.perf_counter()
    layer(x).square().sum().backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
