"""The embedded teacher: text of the model, reproducible by seed, and a clean shutdown."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from quantum_hybrid.errors import TeacherError
from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher, TeacherClient, TeacherServer
from quantum_hybrid.teacher import embedded as embedded_module
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Prompt, Sampling

PROMPT = Prompt("p1", "science", "Why is the sky blue?")
SAMPLING = Sampling(max_tokens=8, top_logprobs=5)


async def ask(
    server: TeacherServer, cache: AnswerCache, sampling: Sampling, *spans: tuple[int, int]
) -> list[Answer]:
    client = TeacherClient(server, cache)
    try:
        assert await client.check() == (server.model,)
        answers = [await client.answers(PROMPT, *span, sampling) for span in spans]
    finally:
        await client.close()
    return [answer for group in answers for answer in group]


@pytest.fixture(scope="module")
def four_answers(embedded, tmp_path_factory) -> list[Answer]:
    with AnswerCache(tmp_path_factory.mktemp("four") / "answers.sqlite") as cache:
        return asyncio.run(ask(embedded.server, cache, SAMPLING, (0, 4)))


def test_answers_are_the_models_text(four_answers):
    assert [answer.index for answer in four_answers] == [0, 1, 2, 3]
    assert len({answer.text for answer in four_answers}) == 4
    for answer in four_answers:
        assert answer.prompt_id == PROMPT.id
        assert answer.text.strip()
        assert answer.finish_reason in ("stop", "length")
        assert answer.model.startswith("SmolLM2-135M-Instruct")


def test_logprobs_are_a_distribution_at_each_token(four_answers):
    for answer in four_answers:
        rows = answer.logprobs
        assert rows is not None
        n_tokens = len(rows.tokens)
        assert 0 < n_tokens <= SAMPLING.max_tokens
        assert n_tokens == len(rows.token_ids) == len(rows.top_ids) == len(rows.top_logprobs)
        assert n_tokens == len(rows.token_logprobs)
        spelled = [part for part in rows.token_bytes if part is not None]
        assert len(spelled) == n_tokens
        assert b"".join(spelled).decode("utf-8").strip() == answer.text.strip()
        for ids, values in zip(rows.top_ids, rows.top_logprobs, strict=True):
            assert len(set(ids)) == len(ids) == len(values) == SAMPLING.top_logprobs
            assert list(values) == sorted(values, reverse=True)
            assert all(value <= 0 for value in values)
            assert math.fsum(map(math.exp, values)) <= 1 + 1e-6


def test_a_tokens_own_probability_is_the_one_in_its_list(four_answers):
    n_listed = 0
    for answer in four_answers:
        rows = answer.logprobs
        assert rows is not None
        listed = AnswerLogprobs.from_lists(
            rows.tokens, rows.token_ids, rows.top_ids, rows.top_logprobs
        )
        for own, other, likely in zip(
            rows.token_logprobs, listed.token_logprobs, rows.top_logprobs, strict=True
        ):
            assert own == other if other is not None else own is not None and own <= likely[-1]
            n_listed += other is not None
    assert n_listed > 8


def test_a_character_of_several_tokens_is_no_single_tokens_guess(embedded, open_cache):
    """At a character of several tokens the server lists alternatives of its last token only."""
    grammar = ("grammar", 'root ::= "I ☕ x"')
    server = replace(embedded.server, sampler_extras=(*embedded.server.sampler_extras, grammar))
    (answer,) = asyncio.run(ask(server, open_cache(), SAMPLING, (0, 1)))
    rows = answer.logprobs
    assert rows is not None
    assert answer.text == "I ☕ x"
    assert b"".join(filter(None, rows.token_bytes)) == answer.text.encode()
    spelled = zip(rows.tokens, rows.top_logprobs, rows.top_ids, rows.token_logprobs, strict=True)
    for token, likely, ids, own in spelled:
        is_known = token != "☕"
        assert [bool(likely), bool(ids), own is not None] == [is_known] * 3


def test_same_seed_same_text_however_it_is_asked(embedded, open_cache, four_answers):
    """Answer i is drawn with seed + i, in one request for all or one request each."""
    again = asyncio.run(ask(embedded.server, open_cache(), SAMPLING, (0, 1), (1, 3)))
    assert [answer.text for answer in again] == [answer.text for answer in four_answers]


def test_its_key_is_needed_and_shown_nowhere(embedded, open_cache):
    key = embedded.server.api_key
    assert key
    assert key not in repr(embedded.server)
    stranger = TeacherServer(embedded.server.base_url, "m", "wrong-key", "x")
    wrong = TeacherClient(stranger, open_cache())

    async def check() -> None:
        try:
            await wrong.check()
        finally:
            await wrong.close()

    with pytest.raises(TeacherError, match="401"):
        asyncio.run(check())


def test_identity_does_not_depend_on_the_port(embedded):
    name, file, digest = embedded.server.identity.split(":")
    assert name == "embedded"
    assert file == embedded_module.embedded_gguf().name
    assert len(digest) == 16


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    monkeypatch.setattr(embedded_module, "embedded_gguf", lambda: path)
    with pytest.raises(TeacherError, match=str(path)), EmbeddedTeacher():
        pass


def test_no_server_outside_its_context():
    with pytest.raises(RuntimeError, match="with statement"):
        _ = EmbeddedTeacher().server


ASKING = """
import signal
import asyncio, json, sys, threading, urllib.request
from pathlib import Path
from quantum_hybrid.text.records import Prompt, Sampling
from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher, TeacherClient

async def ask(server, cache):
    client = TeacherClient(server, cache)
    try:
        sampling = Sampling(max_tokens=900)
        request = client.answers(Prompt("p", "c", "Tell a long story."), 0, 4, sampling)
        task = asyncio.create_task(request)
        while client.account.requests == 0:
            await asyncio.sleep(0)
        print(server.base_url.split(":")[2].split("/")[0], flush=True)
        if sys.argv[2] == "abandon":
            return
        await task
    finally:
        if sys.argv[2] != "abandon":
            await client.close()

def ask_in_thread(server):
    body = b'{"messages": [{"role": "user", "content": "Tell a long story."}]}'
    headers = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.base_url}/chat/completions", body, headers)
    try:
        urllib.request.urlopen(request).read()
    except OSError:
        pass

def slots(server):
    address = server.base_url.removesuffix("/v1") + "/slots"
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:
        return str([slot["is_processing"] for slot in json.load(reply)])

# A shell's background job ignores SIGINT, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
with AnswerCache(Path(sys.argv[1])) as cache, EmbeddedTeacher() as embedded:
    if sys.argv[2] == "thread":
        args = (embedded.server,)
        threading.Thread(target=ask_in_thread, args=args, daemon=True).start()
        while "True" not in slots(embedded.server):
            pass
        print(embedded.server.base_url.split(":")[2].split("/")[0], flush=True)
    else:
        asyncio.run(ask(embedded.server, cache))
"""


@pytest.mark.parametrize(
    ("ending", "statuses"),
    [("interrupt", (130, -signal.SIGINT)), ("abandon", (0,)), ("thread", (0,))],
)
def test_process_ends_while_an_answer_is_being_written(tmp_path, ending, statuses):
    """Ctrl-C, or leaving the context, during a request: no deadlock, nothing left behind."""
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING, str(tmp_path / "answers.sqlite"), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        if ending == "interrupt":
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=900)
    assert process.returncode in statuses, errors
    assert "llama" not in errors
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
