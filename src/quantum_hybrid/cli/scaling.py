"""`scaling`: loss against the number of qubits and layers, on the ground of a finished study."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from quantum_hybrid.errors import UsageError
from quantum_hybrid.output import say
from quantum_hybrid.paths import user_path, writable_cache_directory
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.study.sizes import (
    LAYERS,
    LAYERS_OF_WIDTHS,
    MOST_LAYERS,
    MOST_QUBITS,
    QUBITS,
    QUBITS_OF_DEPTHS,
)

HELP = "loss against qubits and layers, on the hidden states of a finished study"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which study, and what is varied."""
    parser.add_argument("--study-dir", required=True, metavar="DIR", help="folder of the study")
    parser.add_argument(
        "--qubits",
        type=_numbers(2, MOST_QUBITS),
        metavar="N,N,...",
        help=f"numbers of qubits, at {LAYERS_OF_WIDTHS} layers [{_listed(QUBITS)}]",
    )
    parser.add_argument(
        "--layers",
        type=_numbers(1, MOST_LAYERS),
        metavar="L,L,...",
        help=f"numbers of layers, at {QUBITS_OF_DEPTHS} qubits [{_listed(LAYERS)}]",
    )


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Conduct the small studies that are not done, and write the study's page again."""
    path = user_path(namespace.study_dir, f"--study-dir {namespace.study_dir!r}")
    if not namespace.study_dir or not (path / "study.json").is_file():
        raise UsageError(f"--study-dir {namespace.study_dir!r}: must be the folder of a study")
    writable_cache_directory()
    from quantum_hybrid.report.study_summary import scaling_lines
    from quantum_hybrid.study.conduct import Conductor
    from quantum_hybrid.study.folder import opened
    from quantum_hybrid.study.plan import DEFAULT_PLAN
    from quantum_hybrid.study.scaling import Scaling, scale

    wanted = Scaling(namespace.qubits or QUBITS, namespace.layers or LAYERS)
    with opened(path, None, DEFAULT_PLAN) as study:
        conductor = Conductor(study, say)
        with conductor.stopping_in_order():
            found = scale(study, wanted, conductor.say)
            conductor.report()
        say("\n".join(["", *scaling_lines(found["rows"])]))
        say("Held-out loss alone, nats per token; +- one standard error over seeds.")
        say(f"page      {study.page}")
    return 0


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _numbers(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    def read(text: str) -> tuple[int, ...]:
        parts = text.split(",")
        if not all(part.isdecimal() and low <= int(part) <= high for part in parts):
            raise argparse.ArgumentTypeError(
                f"invalid value {text!r}: must be whole numbers from {low} to {high}, such as 2,4"
            )
        return tuple(map(int, parts))

    return read
