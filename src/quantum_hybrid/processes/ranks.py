"""Communication between the processes of one run under `torchrun`.

    torchrun --standalone --nproc-per-node 2 atropos.py process

The first process (rank 0) reads the command line, asks the teacher, evaluates and writes files. The
others receive its calls and compute their share of each step. The backend is Gloo over TCP, so the
processes may be on several machines. With one process, `ALONE`, every method returns its input or
does nothing.

All processes call the collective methods (`total`, `mean`, `bring`) at the same point of a step.
The first process broadcasts its calls with `tell`, and the others receive them with `hear`. These
two use a group of their own with a long timeout, because a process may wait as long as the teacher
takes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from quantum_hybrid.errors import ProcessLost, QuantumHybridError
from quantum_hybrid.processes.launch import Launch

LONGEST_WAIT = timedelta(days=365)
"""Timeout of `hear`. A process that ends closes its connections, which is noticed at once."""


@dataclass
class Ranks:
    """This process's rank in the run, and its connections to the other processes."""

    rank: int = 0
    size: int = 1
    n_local: int = 1
    """Number of processes on this machine."""
    _telling: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    @classmethod
    @contextmanager
    def joined(cls, launch: Launch) -> Iterator[Ranks]:
        """Connect to the other processes; when the first one leaves the block, the others end.

        Processes other than the first ignore SIGINT and SIGTERM, because the first one needs them
        to finish its step. Raises `ProcessLost` if they cannot be reached.
        """
        if launch.size == 1:
            yield ALONE
            return
        try:
            dist.init_process_group("gloo")
            telling = dist.new_group(timeout=LONGEST_WAIT)
        except (RuntimeError, ValueError) as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise ProcessLost(f"the run's other processes cannot be met: {why}") from error
        ranks = cls(launch.rank, launch.size, launch.n_local, telling)
        if not ranks.is_first:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        try:
            yield ranks
        except ProcessLost:
            raise
        except QuantumHybridError:
            with suppress(ProcessLost):  # Report the original error, not this one.
                ranks.tell("end")
            raise
        # Any other exception may have come within a collective call, where the others do not hear.
        # They notice that this process has ended.
        else:
            ranks.tell("end")
            dist.destroy_process_group()

    def threads(self, n_threads: int) -> int:
        """This process's share of the machine's threads."""
        return max(1, n_threads // self.n_local)

    def share(self, sizes: Sequence[int]) -> list[int]:
        """Indices of the items that this process takes, in ascending order.

        The items are assigned largest first, each to the least loaded process. Every process has at
        least one if there are enough.
        """
        shares: list[list[int]] = [[] for _ in range(self.size)]
        loads = [0] * self.size
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            lightest = loads.index(min(loads))
            shares[lightest].append(i)
            loads[lightest] += sizes[i]
        return sorted(shares[self.rank])

    def total(self, values: Tensor) -> Tensor:
        """Sum over processes; all of them get the same bits."""
        if self.size == 1:
            return values
        values = values.clone()
        with noticing_loss():
            dist.all_reduce(values)
        return values

    def mean(self, values: Float[Tensor, " n"], weight: float) -> Float[Tensor, " n"]:
        """Weighted mean over processes; zeros if all weights are zero."""
        if self.size == 1:
            return values
        weighted = torch.cat([weight * values.double(), torch.tensor([weight]).double()])
        *sums, weights = self.total(weighted)
        return (torch.stack(sums) / weights.clamp_min(torch.finfo(torch.float64).tiny)).to(values)

    def means(self, own: dict[str, float], weight: float) -> dict[str, float]:
        """Weighted mean over processes of several figures; a process has one weight for all."""
        values = self.mean(torch.tensor(list(own.values()), dtype=torch.float64), weight)
        return dict(zip(own, values.tolist(), strict=True))

    def tell(self, what: str, *about: Any) -> None:
        """Broadcast a call and its arguments from the first process; elsewhere do nothing."""
        if self.size > 1 and self.is_first:
            with noticing_loss():
                dist.broadcast_object_list([(what, *about)], src=0, group=self._telling)

    def hear(self) -> tuple[Any, ...]:
        """Wait for the first process's next call and return it with its arguments."""
        heard: list[Any] = [None]
        with noticing_loss():
            dist.broadcast_object_list(heard, src=0, group=self._telling)
        return heard[0]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite these tensors with those of the first process, in the same order."""
        for tensor in tensors if self.size > 1 else ():
            with noticing_loss():
                dist.broadcast(tensor, src=0)

    def bring(self, tensor: Tensor, owner: int) -> None:
        """Send the owner's tensor to the first process, which overwrites its own with it."""
        with noticing_loss():
            if self.rank == owner != 0:
                dist.send(tensor, dst=0)
            elif self.is_first and owner != 0:
                dist.recv(tensor, src=owner)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Raise in all processes a `QuantumHybridError` that any process raises in the block.

        With several errors, that of the lowest rank is raised.
        """
        if self.size == 1:
            yield
            return
        error = None
        try:
            yield
        except QuantumHybridError as met:
            error = met
        errors: list[QuantumHybridError | None] = [None] * self.size
        with noticing_loss():
            dist.all_gather_object(errors, error)
        for rank, met in enumerate(errors):
            if met is not None:
                raise met if rank == 0 else type(met)(f"process {rank}: {met}")


ALONE = Ranks()


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Raise `ProcessLost` in place of gloo's error when another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise ProcessLost(
            "another process of this run has ended, or cannot be reached: torchrun says which; go "
            "on with the same command and the same `run_dir`"
        ) from error
