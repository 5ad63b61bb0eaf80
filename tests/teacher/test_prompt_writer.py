"""Candidates for prompts: from the embedded teacher, and from a scripted server in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from quantum_hybrid.errors import TeacherError, TeacherRefused
from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher, PromptWriter, TeacherServer
from quantum_hybrid.teacher.prompt_writer import SEED_STRIDE
from quantum_hybrid.text.records import Answer
from scripted_server import KEY, ScriptedServer


def first(server: TeacherServer, cache: AnswerCache, count: int, seed: int = 0) -> list[Answer]:
    async def ask() -> list[Answer]:
        found: list[Answer] = []
        async with aclosing(PromptWriter(server, cache, seed).candidates()) as candidates:
            async for candidate in candidates:
                found.append(candidate)
                if len(found) == count:
                    break
        return found

    return asyncio.run(ask())


def test_the_model_writes_what_a_user_asks_whatever_it_writes_at_the_same_time(
    embedded, open_cache
) -> None:
    written = first(embedded.server, open_cache(), 4)
    assert [answer.index for answer in written] == [0, 1, 2, 3]
    assert [answer.prompt_id for answer in written] == [f"written-0-{i}" for i in range(4)]
    assert len({answer.text for answer in written}) == 4
    assert any(answer.text.endswith("?") and answer.finish_reason == "stop" for answer in written)
    assert not any("\n\n" in answer.text or "<|im_" in answer.text for answer in written)
    with EmbeddedTeacher(n_parallel=1) as alone:
        assert first(alone.server, open_cache(), 2) == written[:2]


class TemplateServer(ScriptedServer):
    """Fills in a template, and writes text that depends on the seed only."""

    def _step(self, request: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if self.script:
            return super()._step(request)
        self.requests.append(request)
        body = request["body"]
        if request["path"] == "/apply-template":
            return 200, {}, {"prompt": f"<user>{body['messages'][0]['content']}<end><assistant>"}
        choice = {"text": f"text {body['seed']}", "finish_reason": "stop"}
        return 200, {}, {"choices": [choice]}


@pytest.fixture
def templates() -> Iterator[TemplateServer]:
    server = TemplateServer()
    yield server
    server.close()


def test_each_candidate_has_a_seed_of_its_own_after_the_users_header(templates, open_cache) -> None:
    server = templates.server(max_concurrent_requests=2, sampler_extras=(("top_k", 0),))
    written = first(server, open_cache(), 5, seed=3)
    assert [answer.text for answer in written] == [f"text {3 * SEED_STRIDE + i}" for i in range(5)]
    asked = [one["body"] for one in templates.requests if one["path"] == "/v1/completions"]
    assert sorted(body["seed"] for body in asked)[:5] == [3 * SEED_STRIDE + i for i in range(5)]
    for body in asked:
        assert body["prompt"] == "<user>"
        assert body["temperature"] == 1
        assert body["stop"] == ["\n\n"]
        assert body["top_k"] == 0
    assert all(one["headers"]["Authorization"] == f"Bearer {KEY}" for one in templates.requests)


def test_what_was_written_is_not_written_again(templates, open_cache) -> None:
    cache = open_cache()
    written = first(templates.server(), cache, 6)
    before = len(templates.requests)
    assert first(templates.server(), cache, 6) == written
    again = [one["body"]["seed"] for one in templates.requests[before + 1 :]]
    assert all(seed >= 6 for seed in again)
    other = first(templates.server(), cache, 6, seed=1)
    assert not {answer.text for answer in other} & {answer.text for answer in written}


@pytest.mark.parametrize(
    "step",
    [{"choices": []}, {"choices": [{"text": None, "finish_reason": "stop"}]}, "[]", "not JSON"],
    ids=str,
)
def test_a_reply_that_holds_no_text_is_one_line(step, templates, open_cache) -> None:
    template = {"prompt": "<user><<text of the user>>"}
    templates.script = [template, *[step] * 16]
    with pytest.raises(TeacherError, match="its reply") as raised:
        first(templates.server(), open_cache(), 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(404, "scripted 404"), ({"prompt": "without it"}, "no filled template: without it")],
    ids=str,
)
def test_a_server_without_a_template_is_named(step, expected, templates, open_cache) -> None:
    templates.script = [step]
    kind = TeacherRefused if step == 404 else TeacherError
    with pytest.raises(kind, match=expected):
        first(templates.server(), open_cache(), 1)
