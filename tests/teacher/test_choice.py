"""Which teacher the flags and the environment ask for."""

from __future__ import annotations

import pytest

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.teacher import choose_teacher

KEY = {"ATROPOS_HERMES_API_KEY": "sk-secret"}


def test_without_key_and_address_the_embedded_teacher() -> None:
    teacher = choose_teacher(ServerConfig(), {}, 64)
    assert teacher.is_embedded
    assert "embedded" in teacher.description


def test_with_a_key_hermes() -> None:
    teacher = choose_teacher(ServerConfig(), KEY, 64)
    assert teacher.server is not None
    assert (teacher.server.base_url, teacher.server.model) == (HERMES_BASE_URL, HERMES_MODEL)
    assert teacher.server.api_key == "sk-secret"
    assert HERMES_MODEL in teacher.description
    assert "sk-secret" not in repr(teacher)


def test_an_address_needs_no_key() -> None:
    config = ServerConfig(base_url="http://localhost:8000/v1/", model_name="mine", timeout=7.0)
    teacher = choose_teacher(config, {}, 64)
    assert teacher.server is not None
    assert teacher.server.api_key is None
    assert teacher.server.base_url == "http://localhost:8000/v1"
    assert teacher.server.model == "mine"
    assert teacher.server.timeout_s == 7.0
    assert "no key" in teacher.description


def test_a_model_name_alone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--openai\.model_name 'mine': needs ATROPOS_HERMES"):
        choose_teacher(ServerConfig(model_name="mine"), {}, 64)


def test_an_empty_key_is_no_key() -> None:
    assert choose_teacher(ServerConfig(), {"ATROPOS_HERMES_API_KEY": ""}, 64).is_embedded
