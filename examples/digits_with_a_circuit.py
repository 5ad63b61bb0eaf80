"""A quantum circuit inside a small torch classifier, against what could stand in its place.

    python examples/digits_with_a_circuit.py

The data are made here: seven-segment digits with noise, each segment a number. Three classifiers
differ in one part only, which turns 7 numbers into 7 others: a circuit of 7 qubits, a tanh
layer, or nothing at all. Prints the accuracy of each on digits that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantum_hybrid import QuantumLayer

SEGMENTS = torch.tensor(
    [
        [1, 1, 1, 1, 1, 1, 0],  # 0
        [0, 1, 1, 0, 0, 0, 0],  # 1
        [1, 1, 0, 1, 1, 0, 1],  # 2
        [1, 1, 1, 1, 0, 0, 1],  # 3
        [0, 1, 1, 0, 0, 1, 1],  # 4
        [1, 0, 1, 1, 0, 1, 1],  # 5
        [1, 0, 1, 1, 1, 1, 1],  # 6
        [1, 1, 1, 0, 0, 0, 0],  # 7
        [1, 1, 1, 1, 1, 1, 1],  # 8
        [1, 1, 1, 1, 0, 1, 1],  # 9
    ],
    dtype=torch.float32,
)
"""Which segments of a display are lit for each digit, from the top clockwise, the middle last."""
NOISE = 0.3
"""Standard deviation of the noise on each segment; a lit segment is 1, a dark one 0."""
TRAINING, UNSEEN, STEPS = 1000, 2000, 300


def digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy segments (count, 7) and which digit each is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    noise = NOISE * torch.randn(count, 7, generator=generator)
    return SEGMENTS[labels] + noise, labels


class Angles(nn.Module):
    """Any numbers as angles in (-pi, pi), which is what a circuit takes."""

    def forward(self, numbers: Tensor) -> Tensor:
        return math.pi * torch.tanh(numbers)


PARTS: dict[str, Callable[[], nn.Module]] = {
    "circuit of 7 qubits": lambda: nn.Sequential(Angles(), QuantumLayer(n_qubits=7, n_layers=3)),
    "tanh layer": lambda: nn.Sequential(nn.Linear(7, 7), nn.Tanh()),
    "nothing": nn.Identity,
}


def accuracy(part: nn.Module) -> float:
    """Train a classifier around this part; the share of unseen digits that it then gets right."""
    model = nn.Sequential(nn.Linear(7, 7), part, nn.Linear(7, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    inputs, labels = digits(TRAINING, seed=0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    inputs, labels = digits(UNSEEN, seed=1)
    with torch.no_grad():
        return (model(inputs).argmax(-1) == labels).float().mean().item()


def main() -> None:
    """One line for each of the three."""
    for name, make in PARTS.items():
        torch.manual_seed(0)
        part = make()
        n_weights = sum(weight.numel() for weight in part.parameters())
        print(f"{name:20} {n_weights:3} weights   {accuracy(part):6.1%} of unseen digits")
    print("One seed and one data set: this says nothing about circuits in general.")


if __name__ == "__main__":
    main()
