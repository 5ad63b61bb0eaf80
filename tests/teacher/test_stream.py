"""Groups are requested in advance and delivered in the schedule's order."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from typing import Any

import pytest

from quantum_hybrid.errors import TeacherUnreachable
from quantum_hybrid.teacher import AnswerCache, GroupStream, TeacherClient
from quantum_hybrid.text.prompts import built_in_prompts
from quantum_hybrid.text.records import Answer, Prompt, Sampling
from scripted_server import SAMPLING, completion, use


class SlowFirst(TeacherClient):
    """A real client whose first prompt waits until the second is answered (a controlled race)."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.second_done = asyncio.Event()
        self.asked: list[str] = []

    async def answers(
        self, prompt: Prompt, first_index: int, count: int, sampling: Sampling
    ) -> list[Answer]:
        self.asked.append(prompt.id)
        number = len(self.asked)
        if number == 1:
            await self.second_done.wait()
        answers = await super().answers(prompt, first_index, count, sampling)
        if number == 2:
            self.second_done.set()
        return answers


def test_groups_come_in_order_though_the_second_is_written_first(embedded, tmp_path) -> None:
    async def take() -> tuple[list[str], list[str], list[int]]:
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            client = SlowFirst(embedded.server, cache)
            stream = GroupStream(
                client, built_in_prompts().schedule(0, 2), 2, Sampling(max_tokens=4), ahead=3
            )
            groups = [await stream.next_group(wanted) for wanted in (3, 2, 1)]
            await stream.close()
            await client.close()
        return client.asked, [p.id for p, _ in groups], [len(answers) for _, answers in groups]

    asked, taken, sizes = asyncio.run(take())
    schedule = built_in_prompts().schedule(0, 2)
    assert taken == [prompt.id for prompt, _ in (next(schedule) for _ in range(3))]
    assert asked == taken, "no more groups are asked for than are wanted"
    assert sizes == [2, 2, 2]


class FailsOnThird(TeacherClient):
    """A real client whose connection is lost at the third prompt."""

    numbers = count(1)

    async def answers(
        self, prompt: Prompt, first_index: int, count: int, sampling: Sampling
    ) -> list[Answer]:
        if next(self.numbers) == 3:
            raise TeacherUnreachable("lost")
        return await super().answers(prompt, first_index, count, sampling)


def test_a_failure_is_raised_when_its_turn_comes(embedded, tmp_path) -> None:
    async def take() -> int:
        taken = 0
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            client = FailsOnThird(embedded.server, cache)
            stream = GroupStream(
                client, built_in_prompts().schedule(0, 1), 1, Sampling(max_tokens=4), ahead=4
            )
            for _ in range(2):
                await stream.next_group(4)
                taken += 1
            with pytest.raises(TeacherUnreachable):
                await stream.next_group(2)
            await stream.close()
            await client.close()
        return taken

    assert asyncio.run(take()) == 2


def test_a_cancelled_wait_loses_no_group(embedded, tmp_path) -> None:
    async def take() -> tuple[str, str]:
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            client = TeacherClient(embedded.server, cache)
            stream = GroupStream(
                client, built_in_prompts().schedule(0, 1), 1, Sampling(max_tokens=4), ahead=2
            )
            waiting = asyncio.create_task(stream.next_group(2))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            prompt, _ = await stream.next_group(2)
            await stream.close()
            await client.close()
        return prompt.id, next(built_in_prompts().schedule(0, 1))[0].id

    taken, first = asyncio.run(take())
    assert taken == first


def test_as_many_requests_are_under_way_as_may_be_and_no_more(scripted, open_cache) -> None:
    """The server replies only once four requests are open, so fewer would deadlock."""
    barrier, lock = threading.Barrier(4), threading.Lock()
    under_way: list[int] = [0]

    def together(*texts: str) -> dict[str, Any]:
        with lock:
            under_way.append(under_way[-1] + 1)
        barrier.wait(timeout=900)
        with lock:
            under_way.append(under_way[-1] - 1)
        return completion(*texts)

    scripted.completion = together

    async def take(client: TeacherClient) -> int:
        stream = GroupStream(client, built_in_prompts().schedule(0, 2), 2, SAMPLING, ahead=8)
        groups = [await stream.next_group(wanted) for wanted in range(12, 0, -1)]
        await stream.close()
        return len(groups)

    server = scripted.server(max_concurrent_requests=4, max_retries=0)
    assert use(server, open_cache(), take) == 12
    assert max(under_way) == 4
