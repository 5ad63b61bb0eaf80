"""Where the time of `process` goes: ``python -m benchmarks.process``, part of `make bench`.

A short run of the main job with its defaults fills the teacher's cache; the same run again, the
cache being warm, is measured. Each step, from a group's texts to its logged figures, is split into

- backbone: its forward and its backward pass;
- head: all of it but the circuits, forward, backward and losses;
- circuit: both circuits forward and backward, coherence and entanglement;
- optimiser: clipping and the update of every part;
- logging: metrics.jsonl, TensorBoard, Weights & Biases (offline), the progress bar;
- other: token rows, figures, rewards, passing between threads.

Marks are set where one part hands over to another, by wrapping functions from outside; a run of a
user has none. Prints a table and, as its last line, one line of JSON. Flags of `process` that are
given are added to both runs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.program import confine

STEPS, WARM_UP = 14, 2
"""Of the measured run, if not told otherwise, and those of them that do not count: what is compiled
or loaded late."""
LARGEST_REST = 0.05
"""The goal: share of a step that is neither backbone nor head."""
PARTS = ("backbone", "head", "circuit", "optimiser", "logging", "other")
ROOT = Path(__file__).parents[1]


class Clock:
    """One step after the other, each as seconds of its parts. One part runs at a time."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._part: str | None = None
        self._since = 0.0

    def start(self) -> None:
        """A step begins."""
        self.steps.append(defaultdict(float))
        self._part, self._since = "other", time.perf_counter()

    def stop(self) -> None:
        """It ends."""
        self.switch(None)

    def switch(self, part: str | None) -> str | None:
        """From here on it is this part's time. Outside a step nothing is counted."""
        before, now = self._part, time.perf_counter()
        if before is not None:
            self.steps[-1][before] += now - self._since
            self._part, self._since = part, now
        return before

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted as that part's but for what is another's within it."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return wrapped

    def mark(self, part: str) -> Callable[..., None]:
        """A hook for torch: when it is called, a part begins."""

        def hook(*_: Any) -> None:
            self.switch(part)

        return hook


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.process", allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=STEPS)
    chosen, flags = parser.parse_known_args()
    if chosen.steps <= WARM_UP:
        parser.error(f"--steps {chosen.steps}; allowed: more than {WARM_UP}, which do not count")
    confine()
    load = round(os.getloadavg()[0], 2)
    clock, n_tokens = Clock(), []
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (_arguments(Path(folder) / name, chosen.steps) for name in ("cold", "warm"))
        command = [sys.executable, str(ROOT / "atropos.py"), *cold, *flags]
        variables = {**os.environ, **environment}
        filled = subprocess.run(command, env=variables, stdout=subprocess.DEVNULL)
        if filled.returncode:
            raise SystemExit(filled.returncode)
        os.environ.update(environment)
        install(clock, n_tokens)
        from quantum_hybrid.cli import main as run

        if status := run([*warm, *flags]):
            raise SystemExit(status)
    _report(clock.steps[WARM_UP:], n_tokens[WARM_UP:], load)


def _arguments(run_dir: Path, steps: int) -> list[str]:
    run = ["--env.run_dir", str(run_dir), "--env.total_steps", str(steps)]
    return ["process", *run, "--env.eval_prompts", "2", "--env.steps_per_eval", str(steps)]


def _report(steps: list[dict[str, float]], n_tokens: list[int], load: float) -> None:
    seconds = {part: sum(step[part] for step in steps) for part in PARTS}
    whole = sum(seconds.values())
    rate, rest = sum(n_tokens) / whole, 1 - (seconds["backbone"] + seconds["head"]) / whole
    print(f"\n{len(steps)} steps, {sum(n_tokens)} answer tokens, {rate:.0f} tokens per second")
    for part in PARTS:
        median = statistics.median(step[part] for step in steps)
        print(f"{part:<11}{1000 * median:>10.1f} ms{seconds[part] / whole:>9.1%}")
    verdict = "met" if rest <= LARGEST_REST else "missed"
    print(f"neither backbone nor head: at most {LARGEST_REST:.0%}, {rest:.1%}  {verdict}")
    record = {
        "benchmark": "process",
        "machine": machine(),
        "load_before": load,
        "steps": len(steps),
        "tokens": sum(n_tokens),
        "tokens_per_second": round(rate, 1),
        "shares": {part: round(seconds[part] / whole, 4) for part in PARTS},
        "goal": {"at_most": LARGEST_REST, "figure": round(rest, 4), "met": rest <= LARGEST_REST},
    }
    print(json.dumps(record))


def install(clock: Clock, n_tokens: list[int]) -> None:
    """Have the parts of a step marked on the clock, and its answer tokens counted."""
    from quantum_hybrid.circuit import QuantumLayer, first_order
    from quantum_hybrid.run.console import Console
    from quantum_hybrid.run.job import Distillation
    from quantum_hybrid.run.tracking import Trackers
    from quantum_hybrid.student import HybridForCausalLM
    from quantum_hybrid.training import Learner, step

    def replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
        setattr(owner, name, function)

    def time_of(owner: Any, name: str, part: str) -> None:
        replace(owner, name, clock.timed(part, getattr(owner, name)))

    time_of(HybridForCausalLM, "hidden_states", "backbone")
    time_of(QuantumLayer, "forward", "circuit")
    time_of(first_order._Expectations, "backward", "circuit")
    time_of(step, "quantum_state_metrics", "circuit")
    time_of(step, "update", "optimiser")
    time_of(Trackers, "log", "logging")
    time_of(Console, "advance", "logging")
    _mark_backward(clock, step)
    whole_step, train_step = Distillation.train_on, Learner.train_on

    async def timed_step(*args: Any) -> Any:
        clock.start()
        try:
            return await whole_step(*args)
        finally:
            clock.stop()

    def counted_step(*args: Any) -> Any:
        result = train_step(*args)
        n_tokens.append(result.n_tokens)
        return result

    replace(Distillation, "train_on", timed_step)
    replace(Learner, "train_on", counted_step)


def _mark_backward(clock: Clock, step: Any) -> None:
    """It goes from the objective through the head to the hidden states, then on."""
    rows_of, losses_of = step.answer_rows, clock.timed("head", step.three_part_loss)
    gradient_norm = step.circuit_gradient_norm

    def answer_rows(*args: Any) -> Any:
        rows = rows_of(*args)
        rows.hidden.register_hook(clock.mark("backbone"))
        return rows

    def three_part_loss(*args: Any, **kwargs: Any) -> Any:
        losses = losses_of(*args, **kwargs)
        losses.objective.register_hook(clock.mark("head"))
        return losses

    def circuit_gradient_norm(*args: Any) -> Any:
        clock.switch("other")  # Backward has ended.
        return gradient_norm(*args)

    step.answer_rows, step.three_part_loss = answer_rows, three_part_loss
    step.circuit_gradient_norm = circuit_gradient_norm


if __name__ == "__main__":
    main()
