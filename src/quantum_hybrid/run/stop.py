"""Ctrl-C and SIGTERM handled as a request to stop between two steps, without loss."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from quantum_hybrid.errors import Interrupted, OutputError

T = TypeVar("T")


class StopRequest:
    """Set by a signal. A wait is cancelled at once; a computation is finished first."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._requested = asyncio.Event()
        self.signal: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch SIGINT and SIGTERM within the block. A second signal has its default effect."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in caught}
        for number in caught:
            loop.add_signal_handler(number, self._request, number)
        try:
            yield self
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def raise_if_requested(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.signal is not None:
            raise Interrupted(f"stopped by {self.signal.name}", self.signal.value)

    async def unless(self, waiting: Coroutine[Any, Any, T]) -> T:
        """The result of `waiting`; if a signal comes first, cancel it and raise `Interrupted`."""
        if self.signal is not None:
            waiting.close()
            self.raise_if_requested()
        task = asyncio.create_task(waiting)
        request = asyncio.create_task(self._requested.wait())
        try:
            await asyncio.wait((task, request), return_when=asyncio.FIRST_COMPLETED)
            self.raise_if_requested()
            return await task
        finally:
            for unfinished in (task, request):
                unfinished.cancel()
            await asyncio.gather(task, request, return_exceptions=True)

    def _request(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        self.signal = signal.Signals(number)
        self._requested.set()
        # Ctrl-C ends a reader such as `tee` too. The run stops all the same; the log has the line.
        with suppress(OutputError):
            self._announce(
                f"{self.signal.name}: stopping after the current step; send it again to stop at "
                "once"
            )
