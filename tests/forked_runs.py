"""Runs of the real command in processes forked from one that has imported and compiled everything.

    python tests/forked_runs.py BASE_MODEL     reads one order per line from stdin, answers in lines

Importing and compiling take ten times as long as a tiny run. A forked run is an ordinary process
with its own pid and can be killed. No thread exists at the fork, so the fork loses none.

A run can be killed at a chosen source line. A recording run counts how often it executes each line
of this project and of the libraries that write its files, by activity. A run that is given such a
line and a count sends itself a signal at that execution. A run can also have a limit on file sizes:
the kernel then kills it in the middle of a write.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

WATCHED = ("quantum_hybrid/", "/shutil.py", "/safetensors/torch.py", "/modeling_utils.py")
"""In which files a run can be told to die."""
ACTIVITIES = {
    "save_checkpoint": "checkpoint",
    "save_student": "student",
    "_finish": "report",
    "evaluate": "evaluation",
    "train_on": "training",
    "_open": "start-up",
    "setup": "start-up",
    "__init__": "start-up",
}
"""What a run is doing, by the innermost function on the stack that says it."""


class Line(NamedTuple):
    """The `count`-th execution of a source line during an activity."""

    activity: str
    file: str
    number: int
    count: int


def recorded_lines(path: Path) -> list[Line]:
    """The line executions that a recording run counted, sorted."""
    return sorted(Line(*row) for row in json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Order:
    """The order for one run: its arguments, and where to record or kill it."""

    arguments: list[str]
    """Of the command."""
    environment: dict[str, str]
    output: str
    """File for what it prints."""
    errors: str | None = None
    """File for its standard error, if that is another one."""
    record: str | None = None
    """File for the lines it begins, as JSON: each `Line`, `count` being how often in all."""
    die_at: Line | None = None
    signal: int = signal.SIGKILL
    """What the run sends itself there."""
    largest_file: int | None = None
    """Bytes that it may write into a file."""
    killed_if_larger: bool = True
    """Whether the kernel kills it then, or tells it that the file is too large."""


class ForkServer:
    """The client of the process that forks the runs."""

    def __init__(self, base_model: Path, prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, sys.executable, __file__, str(base_model)]
        # Threads that wait for each other on a busy machine make a tiny run ten times as long.
        environment = os.environ | {"OMP_THREAD_LIMIT": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pid = self._answer()

    def start(self, order: Order) -> int:
        """Start a run and return its pid."""
        return self._ask(asdict(order))

    def wait(self, pid: int) -> int:
        """Wait for a run: its exit status, or minus the signal that killed it."""
        return self._ask({"wait": pid})

    def run(self, order: Order) -> int:
        """Start a run and wait for it."""
        return self.wait(self.start(order))

    def close(self) -> None:
        """End the forking process, after all runs have ended."""
        self._process.communicate()

    def _ask(self, question: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


# --- in the process that forks, and in the runs -----------------------------------------------


class LineCounter:
    """Counts executed lines in all threads, and sends a signal at a chosen one."""

    def __init__(self, die_at: Line | None, number: int) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._die_at = die_at
        self._signal = number
        self._names: dict[str, str | None] = {}
        threading.settrace(self._on_call)
        sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = self._name(frame)
        if name is None or (self._die_at is not None and name != self._die_at.file):
            return None
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> Any:
        at = self._die_at
        if event == "line" and (at is None or at.number == frame.f_lineno):
            key = (_activity(frame), str(self._name(frame)), frame.f_lineno)
            self._counts[key] += 1
            if at == (*key, self._counts[key]):
                os.kill(os.getpid(), self._signal)
        return self._on_event

    def _name(self, frame: FrameType) -> str | None:
        """The frame's file, relative to a watched folder; None if it is not watched."""
        file = frame.f_code.co_filename
        if file not in self._names:
            starts = [file.index(part) for part in WATCHED if part in file]
            self._names[file] = file[starts[0] :] if starts else None
        return self._names[file]

    def write(self, path: str) -> None:
        sys.settrace(None)
        rows = [Line(*key, count) for key, count in self._counts.items()]
        Path(path).write_text(json.dumps(rows), encoding="utf-8")


def _activity(frame: FrameType | None) -> str:
    while frame is not None:
        named = ACTIVITIES.get(frame.f_code.co_name)
        if named is not None and "quantum_hybrid/" in frame.f_code.co_filename:
            return named
        frame = frame.f_back
    return "between"


def _be_the_run(order: Order) -> NoReturn:
    """Run the command in the child process."""
    with open(order.output, "w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if order.errors is not None:
        with open(order.errors, "w", encoding="utf-8") as errors:
            os.dup2(errors.fileno(), 2)
    os.environ.update(order.environment)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if order.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.largest_file, order.largest_file))
        if order.killed_if_larger:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    counter = None
    if order.record is not None or order.die_at is not None:
        counter = LineCounter(order.die_at, order.signal)
    from quantum_hybrid.cli import main

    sys.argv = ["atropos.py", *order.arguments]
    status = main(order.arguments)
    if counter is not None and order.record is not None:
        counter.write(order.record)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Taking down all that was imported would take longer than the run.


def _warm_up(base_model: str) -> None:
    """Import, load and compile what every run needs, and leave no Python thread behind.

    It computes no gradient: autograd's threads would not exist in a fork.
    """
    import torch
    import torch.utils.tensorboard
    from transformers.utils import logging

    from quantum_hybrid.backbone import adapt, load_base_model
    from quantum_hybrid.circuit import QuantumLayer
    from quantum_hybrid.run import session
    from quantum_hybrid.text import prompts

    logging.disable_progress_bar()
    adapt(load_base_model(base_model, base_model).body, "lora", 4, 0)
    with torch.no_grad():
        QuantumLayer(3, 2)(torch.zeros(2, 3))
    # Half of a run's time, and nothing of what is compared or resumed.
    session.draw_curves = _draw_nothing
    prompts.CALIBRATION_PROMPTS = 8
    assert threading.active_count() == 1


def _draw_nothing(metrics: Any, path: Path, *, title: str) -> None:
    path.touch()


def _serve(base_model: str) -> None:
    _warm_up(base_model)
    gc.freeze()  # No run looks through what was there before it.
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            asked["die_at"] = asked["die_at"] and Line(*asked["die_at"])
            _be_the_run(Order(**asked))


if __name__ == "__main__":
    _serve(sys.argv[1])
