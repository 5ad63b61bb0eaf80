"""Real servers on loopback: the embedded teacher, and two scripted ones that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher
from scripted_server import ScriptedServer


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def spare() -> Iterator[ScriptedServer]:
    """A second server, the spare of the first."""
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[Callable[..., AnswerCache]]:
    """Opens caches in the test's folder and closes them after the test."""
    opened: list[AnswerCache] = []

    def open_one(name: str = "answers.sqlite") -> AnswerCache:
        opened.append(AnswerCache(tmp_path / name))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedTeacher]:
    with EmbeddedTeacher() as teacher:
        yield teacher
