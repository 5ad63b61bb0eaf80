"""Which teacher the flags and the environment ask for."""

from __future__ import annotations

import os

import pytest

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.teacher import Prices, choose_teacher, compute_threads

KEY = {"ATROPOS_HERMES_API_KEY": "sk-secret"}


def test_without_key_and_address_the_embedded_teacher() -> None:
    teacher = choose_teacher(ServerConfig(), {}, 64)
    assert teacher.is_embedded
    assert "embedded" in teacher.description


def test_with_a_key_hermes() -> None:
    teacher = choose_teacher(ServerConfig(), KEY, 64)
    (server,) = teacher.servers
    assert (server.base_url, server.model) == (HERMES_BASE_URL, HERMES_MODEL)
    assert server.api_key == "sk-secret"
    assert HERMES_MODEL in teacher.description
    assert "sk-secret" not in repr(teacher)


def test_an_address_needs_no_key() -> None:
    config = ServerConfig(base_url="http://localhost:8000/v1/", model_name="mine", timeout=7.0)
    teacher = choose_teacher(config, {}, 64)
    (server,) = teacher.servers
    assert server.api_key is None
    assert server.base_url == "http://localhost:8000/v1"
    assert server.model == "mine"
    assert server.timeout_s == 7.0
    assert "no key" in teacher.description


def test_a_model_name_alone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"`model_name` 'mine': needs ATROPOS_HERMES"):
        choose_teacher(ServerConfig(model_name="mine"), {}, 64)


def test_an_empty_key_is_no_key() -> None:
    assert choose_teacher(ServerConfig(), {"ATROPOS_HERMES_API_KEY": ""}, 64).is_embedded


def test_several_servers_have_keys_of_their_own() -> None:
    config = ServerConfig(
        base_url="https://a.example/v1, http://b.example/v1",
        model_name="big,small",
        input_price="0.5",
        output_price="2,0",
    )
    keys = KEY | {"ATROPOS_HERMES_API_KEY_2": "sk-second"}
    first, second = choose_teacher(config, keys, 64).servers
    assert (first.base_url, first.model, first.api_key) == (
        "https://a.example/v1",
        "big",
        "sk-secret",
    )
    assert (second.base_url, second.model, second.api_key) == (
        "http://b.example/v1",
        "small",
        "sk-second",
    )
    assert (first.prices, second.prices) == (Prices(0.5, 2.0), Prices(0.5, 0.0))
    assert choose_teacher(config, KEY, 64).servers[1].api_key is None
    description = choose_teacher(config, KEY, 64).description
    assert description == (
        "big at a.example (key from ATROPOS_HERMES_API_KEY), else small at b.example (no key)"
    )


def test_one_model_may_stand_for_all_servers() -> None:
    config = ServerConfig(base_url="http://a/v1,http://b/v1", model_name="m")
    assert [server.model for server in choose_teacher(config, {}, 64).servers] == ["m", "m"]


def test_several_servers_without_a_model_are_refused() -> None:
    with pytest.raises(UsageError, match=r"several servers need `model_name`"):
        choose_teacher(ServerConfig(base_url="http://a/v1,http://b/v1"), {}, 64)


def test_the_embedded_teacher_has_no_price() -> None:
    config = ServerConfig(max_cost=1.0, input_price="1", output_price="1")
    with pytest.raises(UsageError, match=r"`max_cost` 1\.0: needs ATROPOS"):
        choose_teacher(config, {}, 64)


@pytest.mark.parametrize(("cores", "beside_the_teacher", "alone"), [(1, 1, 1), (6, 3, 6)])
def test_threads_are_for_the_cores_that_are_lent(cores, beside_the_teacher, alone, monkeypatch):
    """A container or a batch system lends fewer than the machine has."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(cores)}, raising=False)
    assert compute_threads(choose_teacher(ServerConfig(), {}, 64)) == beside_the_teacher
    assert compute_threads(choose_teacher(ServerConfig(), KEY, 64)) == alone
