"""The user's limits on the requests and the cost of one start of a run.

    async with budget.request(most):    # waits, or raises BudgetSpent
        ...                             # one request; its cost is added to the account

A request is admitted only if the limit holds even if it and all requests in flight cost their
maximum. `max_cost` is therefore never exceeded if the server respects `max_tokens` and a prompt has
no more tokens than `Prices.most` assumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quantum_hybrid.errors import BudgetSpent, QuantumHybridError
from quantum_hybrid.teacher.account import Account


class StoppedAsking(QuantumHybridError):
    """The client is being closed."""


class Budget:
    """Admits requests within the limits. Use it within one event loop."""

    def __init__(
        self, account: Account, max_requests: int | None = None, max_cost: float | None = None
    ) -> None:
        self._account = account
        self._max_requests = max_requests
        self._max_cost = max_cost
        self._held: list[float] = []
        """Maximum cost of each request in flight."""
        self._one_settled = asyncio.Event()
        self.closed = asyncio.Event()
        """Set when no further request is to be sent."""

    def close(self) -> None:
        """Admit no further request."""
        self.closed.set()
        self._one_settled.set()

    @asynccontextmanager
    async def request(self, most: float) -> AsyncIterator[None]:
        """Reserve `most`, the maximum cost of one request, and count the request as sent.

        Raises `BudgetSpent` at a limit and `StoppedAsking` after `close`.
        """
        while not self._fits(most) and not self.closed.is_set():
            if not self._held:
                raise BudgetSpent(
                    f"stopped at `max_cost` {self._max_cost:g}: {self._spent():.6g} is "
                    f"spent, and the next request may cost {most:.6g}; all paid answers are "
                    "kept: run again to resume"
                )
            self._one_settled.clear()
            await self._one_settled.wait()
        if self.closed.is_set():
            raise StoppedAsking("no further requests are sent to the teacher")
        if self._account.requests == self._max_requests:
            raise BudgetSpent(
                f"stopped at `max_requests` {self._max_requests}; all received answers are "
                "kept: run again to resume"
            )
        self._account.requests += 1
        self._held.append(most)
        try:
            yield
        finally:  # No await here: a reply that has arrived must not be lost to a cancellation.
            self._held.remove(most)
            self._one_settled.set()

    def _fits(self, most: float) -> bool:
        if self._max_cost is None:
            return True
        return self._spent() + sum(self._held) + most <= self._max_cost

    def _spent(self) -> float:
        return self._account.cost + self._account.unknown_cost
