"""`setup`: convert the embedded model and compile the kernels ahead of the first run."""

from __future__ import annotations

import argparse

from quantum_hybrid.output import say
from quantum_hybrid.processes.launch import Launch

HELP = "convert the embedded model and compile the kernels ahead of the first run"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`setup` has no flags."""


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Convert and compile; a first run does the same if this was not done."""
    from quantum_hybrid.backbone import prepare_embedded

    prepare_embedded(announce=say)
    say("compiling the kernels: half a minute, once")
    from quantum_hybrid.circuit import native
    from quantum_hybrid.study.fits import readouts
    from quantum_hybrid.training.head_pass import compiled_sweeps

    native.compile_kernel()
    compiled_sweeps.compile_kernel()
    readouts.compile_kernel()
    return 0
