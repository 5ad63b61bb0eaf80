"""A thousand requests to a server that misbehaves in forty ways: every answer accounted for."""

from __future__ import annotations

import asyncio

from misbehaving_server import AT_MOST, FAULTS, KEY, MODEL, MisbehavingServer
from quantum_hybrid.teacher import Account, AnswerCache, TeacherClient, TeacherServer
from quantum_hybrid.teacher.client import MAX_DRAWS, REDRAW_SEED_OFFSET
from quantum_hybrid.teacher.inventory import stored_rows
from quantum_hybrid.text.records import Answer, Prompt, Sampling

N_PROMPTS = 750
GROUP = 4
IN_USED_REPLIES = {"empty", "not_text", "content_filter", "missing", "surplus", "no_usage"}
SAMPLING = Sampling(max_tokens=16, seed=1000)


def ask_for_all(url: str, cache: AnswerCache) -> tuple[Account, dict[str, list[Answer]]]:
    """Request a group of answers to every prompt, as a run does."""
    server = TeacherServer(
        url, MODEL, KEY, "faulty", max_retries=40, first_wait_s=0.001, timeout_s=30.0,
        max_concurrent_requests=16,
    )  # fmt: skip

    async def main() -> tuple[Account, dict[str, list[Answer]]]:
        client = TeacherClient(server, cache)
        prompts = [Prompt(f"p{i}", "test", f"prompt {i}") for i in range(N_PROMPTS)]
        try:
            await client.check()
            groups = await asyncio.gather(
                *(client.answers(prompt, 0, GROUP, SAMPLING) for prompt in prompts)
            )
        finally:
            await client.close()
        return client.account, {p.text: group for p, group in zip(prompts, groups, strict=True)}

    return asyncio.run(main())


def test_no_answer_is_lost_doubled_or_invented(open_cache) -> None:
    cache = open_cache()
    with MisbehavingServer(seed=7, fault_share=0.45) as server:
        account, groups = ask_for_all(server.base_url, cache)
        n_requests = server.requests
        again, groups_again = ask_for_all(server.base_url, cache)
        assert server.requests == n_requests, "a repeated run asks for nothing"

    assert n_requests >= 1000
    assert len(FAULTS) >= 20
    assert set(server.injected) == set(FAULTS), "every kind of fault has been met"

    # None lost: every prompt has all its answers, in order, and they are what is stored.
    assert [a.index for group in groups.values() for a in group] == [*range(GROUP)] * N_PROMPTS
    stored = {row.key: row.answer for row in stored_rows(cache)}
    answers = [answer for group in groups.values() for answer in group]
    assert sorted(map(str, stored.values())) == sorted(map(str, answers))
    # None doubled: the server writes no text twice.
    assert len({answer.text for answer in answers}) == len(answers) == N_PROMPTS * GROUP
    # None invented: each was written by the server for this very prompt and answer.
    for prompt, group in groups.items():
        for answer in group:
            written_for, seed = server.delivered[answer.text]
            redraws, rest = divmod(seed - SAMPLING.seed - answer.index, REDRAW_SEED_OFFSET)
            assert (written_for, rest) == (prompt, 0)
            assert 0 <= redraws < MAX_DRAWS

    # All accounted for: the client's counts are the server's own.
    assert account.requests == n_requests
    assert account.answers == len(answers)
    assert account.faults == server.expected
    request_faults = sum(
        count
        for kind, count in server.injected.items()
        if not set(FAULTS[kind][1]) <= IN_USED_REPLIES and kind != "endless answer"
    )
    assert account.retries == request_faults
    assert account.cut_at_length == sum(answer.finish_reason == "length" for answer in answers)
    assert server.injected["silence"] == AT_MOST["silence"]

    assert groups_again == groups
    assert (again.requests, again.answers_from_cache) == (0, len(answers))
