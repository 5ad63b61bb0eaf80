"""A large float32 matrix product, the rate that a machine can be held to; a program for ``worker``.

It has no values to check, and the job does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

WIDTH = 1024


def build(job: SimpleNamespace) -> Callable[[], tuple[()]]:
    """One product of two WIDTH x WIDTH matrices."""
    # Here, since who only asks for the width need not wait for torch.
    import torch

    left, right = torch.ones(2, WIDTH, WIDTH)
    product = torch.empty(WIDTH, WIDTH)

    def run() -> tuple[()]:
        torch.mm(left, right, out=product)
        return ()

    return run
