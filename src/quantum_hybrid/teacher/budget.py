"""The limits a user sets on one start of a run: how many requests, how much money.

    async with budget.request(most):    # waits, or raises BudgetSpent
        ...                             # one request, whose cost the account gets

A request is sent only if it fits even at the most it can cost, together with those under way. So
`max_cost` is not overshot as long as the server keeps to `max_tokens` and the prompt is no longer
than it was taken for.
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
    """Admits requests as long as they fit. Use it within one event loop."""

    def __init__(
        self, account: Account, max_requests: int | None = None, max_cost: float | None = None
    ) -> None:
        self._account = account
        self._max_requests = max_requests
        self._max_cost = max_cost
        self._held: list[float] = []
        """The most that each request under way can cost."""
        self._one_settled = asyncio.Event()
        self.closed = asyncio.Event()
        """Set when nothing more is to be asked."""

    def close(self) -> None:
        """Admit no further request."""
        self.closed.set()
        self._one_settled.set()

    @asynccontextmanager
    async def request(self, most: float) -> AsyncIterator[None]:
        """Hold the room for one request that costs `most` at most, and count it as sent."""
        while not self._fits(most) and not self.closed.is_set():
            if not self._held:
                raise BudgetSpent(
                    f"stopped at `max_cost` {self._max_cost:g}: {self._spent():.6g} is "
                    f"spent, and the next request may cost {most:.6g}; everything paid for is "
                    "kept: run again to go on"
                )
            self._one_settled.clear()
            await self._one_settled.wait()
        if self.closed.is_set():
            raise StoppedAsking("the teacher is not asked any more")
        if self._account.requests == self._max_requests:
            raise BudgetSpent(
                f"stopped at `max_requests` {self._max_requests}; everything received is "
                "kept: run again to go on"
            )
        self._account.requests += 1
        self._held.append(most)
        try:
            yield
        finally:  # without waiting for anything: a reply that has arrived must not be cancelled
            self._held.remove(most)
            self._one_settled.set()

    def _fits(self, most: float) -> bool:
        if self._max_cost is None:
            return True
        return self._spent() + sum(self._held) + most <= self._max_cost

    def _spent(self) -> float:
        return self._account.cost + self._account.unknown_cost
