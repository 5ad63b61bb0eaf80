"""Groups of answers in the order of a schedule, requested from the teacher in advance."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from quantum_hybrid.errors import TeacherSilent
from quantum_hybrid.teacher.client import TeacherClient
from quantum_hybrid.text.records import Answer, Prompt, Sampling


class GroupStream:
    """An endless stream of (prompt, its answers), in the schedule's order.

    Up to `ahead` groups are requested in advance; the client limits the concurrent requests. The
    error of a failed group is raised when its turn comes, so that all groups before it are used.
    """

    def __init__(
        self,
        client: TeacherClient,
        schedule: Iterator[tuple[Prompt, int]],
        group_size: int,
        sampling: Sampling,
        ahead: int,
    ) -> None:
        self._client = client
        self._schedule = schedule
        self._group_size = group_size
        self._sampling = sampling
        self._ahead = ahead
        self._tasks: deque[tuple[Prompt, asyncio.Task[list[Answer]]]] = deque()

    async def next_group(self, n_wanted: int) -> tuple[Prompt, list[Answer]]:
        """Wait for the next group. If the wait is cancelled, the group stays the next one.

        `n_wanted` is the number of groups still to be taken, including this one; no more are
        requested. Raises `TeacherSilent` once for a prompt without answers; the next call returns
        the group after it.
        """
        self._ask_ahead(max(1, min(n_wanted, self._ahead)))
        prompt, task = self._tasks[0]
        try:
            answers = await asyncio.shield(task)
        except TeacherSilent:
            self._tasks.popleft()  # Skip the prompt: its result is final.
            raise
        self._tasks.popleft()
        return prompt, answers

    @property
    def n_ready(self) -> int:
        """Number of groups that have arrived and are not yet taken."""
        return sum(task.done() for _, task in self._tasks)

    async def close(self) -> None:
        """Cancel all waiting groups. Answers that have arrived stay in the client's cache."""
        tasks = [task for _, task in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def _ask_ahead(self, n_groups: int) -> None:
        while len(self._tasks) < n_groups:
            prompt, first_index = next(self._schedule)
            request = self._client.answers(prompt, first_index, self._group_size, self._sampling)
            self._tasks.append((prompt, asyncio.create_task(request)))
