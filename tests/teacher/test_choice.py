"""Which teacher the flags and the environment ask for."""

from __future__ import annotations

import pytest

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.teacher import Prices, choose_teacher

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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_url": "http://127.0.0.1:99999/v1"}, r"^`base_url` 'http://127.0.0.1:99999/v1': "),
        ({"base_url": "http://127.0.0.1:-1/v1"}, "is not an address: Port"),
        ({"base_url": "http://[::/v1"}, "Invalid IPv6 URL"),
        ({"base_url": "http:///v1"}, "it names no host"),
        ({"base_url": "http://a\tb/v1"}, "must be printable, without spaces"),
        ({"base_url": "http://a b/v1"}, "must be printable, without spaces"),
        ({"base_url": "http://a/v1", "model_name": "\udcff"}, r"^`model_name` '\\udcff': must be"),
    ],
    ids=str,
)
def test_what_no_request_can_be_sent_to_is_refused(values, message) -> None:
    with pytest.raises(UsageError, match=message):
        choose_teacher(ServerConfig(**values), {}, 64)
