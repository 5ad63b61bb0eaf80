"""The processes of one run under `torchrun`: who they are, and what they say to each other.

    torchrun --standalone --nproc-per-node 2 atropos.py process

The first process (rank 0) is the run: it alone reads the command line, asks the teacher, evaluates
and writes. The others have what it tells them, and take their part of each step. Gloo over TCP, so
they may be on several machines. With one process, `ALONE`, nothing here costs or changes anything.

What all do at the same point of a step is a method of both sides (`total`, `mean`, `bring`). What
the first decides is told (`tell`) and heard (`hear`), over connections on which a process may wait
as long as a teacher takes.
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
"""For what the first process tells next. A process that ends is noticed at once all the same."""


@dataclass
class Ranks:
    """This process's place among those of the run, and its lines to the others."""

    rank: int = 0
    size: int = 1
    n_local: int = 1
    """How many of them share this machine."""
    _telling: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process is the run."""
        return self.rank == 0

    @classmethod
    @contextmanager
    def joined(cls, launch: Launch) -> Iterator[Ranks]:
        """Meet the others that `torchrun` has started; the first one ends them when it leaves.

        Theirs is not to stop at a signal: the first one finishes its step with them before. Raises
        `ProcessLost` if they cannot be met.
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
            with suppress(ProcessLost):  # what went wrong before is what is to be said
                ranks.tell("end")
            raise
        # Anything else may have come in the middle of what all do together, where nobody hears:
        # the others notice that this process has ended.
        else:
            ranks.tell("end")
            dist.destroy_process_group()

    def threads(self, n_threads: int) -> int:
        """This process's share of the machine's threads."""
        return max(1, n_threads // self.n_local)

    def share(self, sizes: Sequence[int]) -> list[int]:
        """Which of the things of these sizes are this process's: the largest first, each to whom
        has least. Each has one if there are as many."""
        shares: list[list[int]] = [[] for _ in range(self.size)]
        loads = [0] * self.size
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            lightest = loads.index(min(loads))
            shares[lightest].append(i)
            loads[lightest] += sizes[i]
        return sorted(shares[self.rank])

    def total(self, values: Tensor) -> Tensor:
        """Sum over processes; the same bits in all of them."""
        if self.size == 1:
            return values
        values = values.clone()
        with noticing_loss():
            dist.all_reduce(values)
        return values

    def mean(self, values: Float[Tensor, " n"], weight: float) -> Float[Tensor, " n"]:
        """Mean over processes, each process's values having its weight; zeros if none has any."""
        if self.size == 1:
            return values
        weighted = torch.cat([weight * values.double(), torch.tensor([weight]).double()])
        *sums, weights = self.total(weighted)
        return (torch.stack(sums) / weights.clamp_min(torch.finfo(torch.float64).tiny)).to(values)

    def means(self, own: dict[str, float], weight: float) -> dict[str, float]:
        """Mean over processes of each of several figures, all of one weight in a process."""
        values = self.mean(torch.tensor(list(own.values()), dtype=torch.float64), weight)
        return dict(zip(own, values.tolist(), strict=True))

    def tell(self, what: str, *about: Any) -> None:
        """Let the others hear it, if this is the first process; else do nothing."""
        if self.size > 1 and self.is_first:
            with noticing_loss():
                dist.broadcast_object_list([(what, *about)], src=0, group=self._telling)

    def hear(self) -> tuple[Any, ...]:
        """Wait for what the first process tells next."""
        heard: list[Any] = [None]
        with noticing_loss():
            dist.broadcast_object_list(heard, src=0, group=self._telling)
        return heard[0]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite these with the first process's, in the same order there."""
        for tensor in tensors if self.size > 1 else ():
            with noticing_loss():
                dist.broadcast(tensor, src=0)

    def bring(self, tensor: Tensor, owner: int) -> None:
        """On the first process overwrite the tensor with the owner's."""
        with noticing_loss():
            if self.rank == owner != 0:
                dist.send(tensor, dst=0)
            elif self.is_first and owner != 0:
                dist.recv(tensor, src=owner)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """An error of ours that one of them meets inside is raised in all, by name of the first."""
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
    """What gloo says when another process has ended, as an error of ours."""
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise ProcessLost(
            "another process of this run has ended, or cannot be reached: torchrun says which; go "
            "on with the same command and the same `run_dir`"
        ) from error
