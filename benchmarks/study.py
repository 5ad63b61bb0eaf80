"""Time the readouts of a study's arms on one thread: microseconds per token and arm.

At V = 49,152, 512 tokens, 13 arms of 8 numbers: the loss and the gradients of all arms in two
sweeps over the vocabulary (``study.readouts``), beside the classical pathway and alone, against one
arm after the other in plain torch. All must agree before anything is timed. Rounds in turns,
medians, ratios within a turn.

The machine's share is the least time over the time taken. The least time is that of the multiply-
adds at the rate of a large matrix product, and of the exponentials at the rate of the kernel's own
on numbers in the first-level cache, both measured in the same round. Prints a table and, as its
last line, one line of JSON.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.matmul import WIDTH
from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.vector_values import add, exp, load, store
from quantum_hybrid.study.fits.readouts import Readouts, classical_logits

SIZE = "49152,512,13"
"""Words, tokens and arms."""
N, D_MODEL = 8, 576
ROUNDS = 5
EXPONENTIALS = 4096
"""Numbers whose exponentials are timed: 16 kB."""
REPEATS = 200
TOLERANCE = 1e-4
"""Of a loss in nats."""


class Case:
    """One batch: all arms in the sweeps, and one after the other in plain torch."""

    def __init__(self, n_words: int, n_tokens: int, n_arms: int, *, beside: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.readouts = Readouts(n_arms, n_words, N)
        for arm in range(n_arms):
            weights = torch.randn(n_words, N, generator=generator)
            self.readouts.set_arm(arm, weights, torch.randn(n_words, generator=generator))
        self.points = torch.randn(n_arms, n_tokens, N, generator=generator)
        self.targets = torch.randint(n_words, (n_tokens,), generator=generator)
        self.features = torch.randn(n_tokens, D_MODEL, generator=generator) * D_MODEL**-0.5
        self.decoder = torch.randn(n_words, D_MODEL, generator=generator)
        self.beside = beside

    def sweeps(self) -> Tensor:
        """Losses (arms, tokens) with all gradients; C is part of the work."""
        losses, _ = self.readouts.backward(self.points, self.targets, self._classical())
        return losses

    def losses_only(self) -> Tensor:
        """Losses (arms, tokens), as in an evaluation."""
        return self.readouts.losses(self.points, self.targets, self._classical())

    def _classical(self) -> Tensor | None:
        return classical_logits(self.features, self.decoder) if self.beside else None

    def plain(self) -> Tensor:
        """The same in plain torch: C once, then one arm after the other."""
        c = self.features @ self.decoder.T if self.beside else None
        found = []
        for arm in range(len(self.readouts)):
            z = self.points[arm].clone().requires_grad_()
            logits = z @ self.readouts.weights[arm].T + self.readouts.biases[arm]
            if c is not None:
                logits = logits + self.readouts.log_scales[arm].exp() * c
            losses = F.cross_entropy(logits, self.targets, reduction="none")
            losses.mean().backward()
            found.append(losses.detach())
        return torch.stack(found)

    def least_seconds(self, rates: tuple[float, float], n_sweeps: int) -> float:
        """Of the multiply-adds and exponentials of one or both sweeps, and of C."""
        multiply_adds, exponentials = rates
        words = self.readouts.n_words * self.points[..., 0].numel()
        per_word = N + (2 + 1) * N * (n_sweeps - 1)
        seconds = words * (per_word / multiply_adds + n_sweeps / exponentials)
        if self.beside:
            of_c = self.readouts.n_words * self.features.numel()
            seconds += of_c / multiply_adds
        return seconds


@compiled
def _exponentials(numbers: np.ndarray, repeats: int) -> None:
    for _ in range(repeats):
        for at in range(0, len(numbers), VECTOR_ROWS):
            value = load(numbers, at)
            store(numbers, at, add(exp(value), value))


def rates() -> tuple[float, float]:
    """Multiply-adds and exponentials a second of one thread."""
    left, right = torch.ones(2, WIDTH, WIDTH)
    of_product = seconds(lambda: torch.mm(left, right))
    numbers = np.full(EXPONENTIALS, -50.0, np.float32)
    of_exponentials = seconds(lambda: _exponentials(numbers, REPEATS))
    return WIDTH**3 / of_product, EXPONENTIALS * REPEATS / of_exponentials


def seconds(run: Callable[[], Any]) -> float:
    """Of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(case: Case) -> list[dict[str, Any]]:
    """A row for each way."""
    ways = {"loss and gradients": case.sweeps, "loss": case.losses_only, "plain torch": case.plain}
    found = {name: run() for name, run in ways.items()}
    for name, losses in found.items():
        if not torch.allclose(losses, found["plain torch"], atol=TOLERANCE):
            raise SystemExit(f"error: {name} and plain torch do not agree")
    rates()  # Compiles.
    taken: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        now = rates()
        for name, run in ways.items():
            taken[name].append(seconds(run))
            least = case.least_seconds(now, 1 if name == "loss" else 2)
            shares[name].append(least / taken[name][-1])
    count = case.points[..., 0].numel()
    plain = taken["plain torch"]
    return [
        {
            "regime": "beside" if case.beside else "alone",
            "way": name,
            "us_per_token_and_arm": round(statistics.median(times) / count * 1e6, 2),
            "plain_by_this": round(
                statistics.median(p / t for p, t in zip(plain, times, strict=True)), 2
            ),
            "share_of_the_machine": round(statistics.median(shares[name]), 3),
        }
        for name, times in taken.items()
    ]


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.study", description=__doc__)
    parser.add_argument("--size", default=SIZE, help="words,tokens,arms; default %(default)s")
    n_words, n_tokens, n_arms = map(int, parser.parse_args().size.split(","))
    torch.set_num_threads(1)
    rows = []
    print(f"{'regime':<9}{'way':<21}{'us':>9}{'plain / this':>14}{'of the machine':>16}")
    for beside in (False, True):
        for row in measure(Case(n_words, n_tokens, n_arms, beside=beside)):
            rows.append(row)
            print(
                f"{row['regime']:<9}{row['way']:<21}{row['us_per_token_and_arm']:>9.1f}"
                f"{row['plain_by_this']:>13.1f}x{row['share_of_the_machine']:>15.0%}",
                flush=True,
            )
    size = {"words": n_words, "tokens": n_tokens, "arms": n_arms, "numbers": N}
    print(json.dumps({"machine": machine() | {"threads_used": 1}, "size": size, "rows": rows}))


if __name__ == "__main__":
    main()
