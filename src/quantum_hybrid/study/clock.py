"""How long a study takes: estimated from its plan, then from how long its tasks have taken.

Seconds of one core are those of the machine in docs/log.md, for the embedded model. Another model
or processor scales these times; nothing but the estimate suffers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from quantum_hybrid.processes.cores import usable_cores
from quantum_hybrid.study.plan import WRITTEN, StudyPlan
from quantum_hybrid.study.regimes import REGIMES
from quantum_hybrid.study.tasks import Kind, Task

TOKENS_PER_SECOND = 35
"""Of the embedded teacher, a core."""
TOKENS_OF_A_PROMPT = 35
"""That the teacher writes for a prompt that is kept."""
SECONDS_PER_STEP = 3.0
"""Of healing or of the regime joint, a core, with 64 tokens a unit."""
SECONDS_PER_STATE = 0.004
"""Of a hidden state, a core."""
WORDS = 49_152
US_PER_TOKEN_AND_ARM: dict[Kind, tuple[float, float]] = {
    "tune": (150, 165),
    "fit": (150, 170),
    "judge": (33, 82),
}
"""Alone and beside, with `WORDS` words."""


class Clock:
    """How long the tasks that are left will take."""

    def __init__(self, tasks: Sequence[Task], plan: StudyPlan, n_words: int) -> None:
        n_cores = usable_cores()
        self._cost = {task: seconds_of(task, plan, n_words) / n_cores for task in tasks}
        self._left, self._started = set(tasks), time.monotonic()

    def done(self, task: Task) -> None:
        """Count a task as done."""
        self._left.discard(task)

    def to_go(self) -> str:
        """In words."""
        left = sum(self._cost[task] for task in self._left)
        done = sum(cost for task, cost in self._cost.items() if task not in self._left)
        pace = (time.monotonic() - self._started) / done if done else 1.0
        return f"about {minutes(left * pace)} to go"


def seconds_of(task: Task, plan: StudyPlan, n_words: int) -> float:
    """About how many seconds a task takes on one core."""
    facts = REGIMES[task.regime]
    if facts.is_joint and task.kind == "fit":
        return SECONDS_PER_STEP * plan.healing_steps
    if facts.is_joint:
        states = SECONDS_PER_STATE * plan.longest_unit * plan.held_out
        return states * len(plan.arms_of(task.regime))
    # A seed sees half of the training units.
    n_units = plan.held_out if task.kind == "judge" else plan.training / 2
    n_tokens = plan.longest_unit * n_units
    n_passes = 1 if task.kind == "judge" else plan.epochs
    if task.kind == "tune":
        n_passes *= plan.tuning_trials
    alone, beside = US_PER_TOKEN_AND_ARM[task.kind]
    us = beside if facts.is_beside else alone
    return len(plan.arms_of(task.regime)) * n_tokens * n_passes * us * 1e-6 * n_words / WORDS


def seconds_of_text(plan: StudyPlan) -> float:
    """About how many seconds of one core the teacher writes."""
    if plan.text is not None:
        return 0.0
    a_unit = plan.longest_unit + (TOKENS_OF_A_PROMPT if plan.prompts == WRITTEN else 0)
    return a_unit * plan.n_units / TOKENS_PER_SECOND


def seconds_of_ground(plan: StudyPlan) -> float:
    """About how many seconds of one core healing and the hidden states take."""
    states = SECONDS_PER_STATE * plan.longest_unit * plan.n_units
    return SECONDS_PER_STEP * plan.healing_steps + states


def introduction(plan: StudyPlan, tasks: Sequence[Task]) -> list[str]:
    """What a study is going to do, and how long that will take."""
    n_cores = usable_cores()
    of_tasks = sum(seconds_of(task, plan, WORDS) for task in tasks)
    parts = {
        "text": seconds_of_text(plan),
        "backbone": seconds_of_ground(plan),
        "tuning, training, judging": of_tasks,
    }
    total = sum(parts.values()) / n_cores
    cores = "1 core" if n_cores == 1 else f"{n_cores} cores"
    named = ", ".join(f"{name} {minutes(part / n_cores)}" for name, part in parts.items())
    unit = "documents" if plan.text is not None else "prompts"
    return [
        f"plan      {plan.digest[:12]}: {len(plan.arms)} arms x {plan.seeds} seeds, "
        f"{', '.join(plan.regimes)}; margin {plan.margin:g} nats per token",
        f"          {plan.training} {unit} for training, {plan.validation} for the tuning with "
        f"{plan.tuning_trials} trials an arm, {plan.held_out} held out",
        f"time      about {minutes(total)} on {cores} if nothing is done yet: {named}",
    ]


def minutes(seconds: float) -> str:
    """At least one."""
    n = max(1, round(seconds / 60))
    return f"{n} minute" if n == 1 else f"{n} minutes"
