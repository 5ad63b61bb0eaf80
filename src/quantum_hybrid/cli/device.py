"""`device`: run a trained student's circuits on a PennyLane device, against exact results."""

from __future__ import annotations

import argparse
import ast
from typing import Any

from quantum_hybrid.output import say
from quantum_hybrid.processes.launch import Launch

HELP = "run a trained student's circuits on a PennyLane device and compare with the exact results"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The run, the device, and the measurement's settings."""
    parser.add_argument("--run", required=True, metavar="RUN", help="directory of a finished run")
    parser.add_argument(
        "--device", required=True, metavar="NAME", help="PennyLane's device name, e.g. qiskit.aer"
    )
    parser.add_argument("--shots", type=_count, default=4096, help="shots per circuit [4096]")
    parser.add_argument(
        "--tokens", type=_count, default=128, help="maximum number of held-out answer tokens [128]"
    )
    parser.add_argument("--seed", type=int, help="seed of the choice of tokens and of the shots")
    parser.add_argument(
        "--depolarising",
        type=float,
        default=0.0,
        metavar="P",
        help="depolarising probability after every gate; needs default.mixed [0]",
    )
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the device; may be repeated; credentials are read from the environment",
    )


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Check the run directory before torch is imported, then compare the circuits."""
    from quantum_hybrid.run.directory import finished_run

    path = finished_run(namespace.run)
    from quantum_hybrid.run.device_check import DeviceRequest, check_device

    request = DeviceRequest(
        namespace.device,
        namespace.shots,
        namespace.tokens,
        namespace.seed,
        namespace.depolarising,
        dict(namespace.option),
    )
    check_device(path, request, say)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be a whole number from 1")
    return int(text)


def _option(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE. The value is a Python literal if it parses as one, else a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be KEY=VALUE")
    if any(word in key.lower() for word in ("key", "token", "secret", "password")):
        raise argparse.ArgumentTypeError(f"{key}: credentials are read from the environment only")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
