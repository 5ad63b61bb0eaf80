"""The choice of a teacher from the flags and the environment."""

from __future__ import annotations

import pytest

from quantum_hybrid.cli import main
from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes import cores as usable
from quantum_hybrid.teacher import Prices, TeacherServer, choice, choose_teacher, compute_threads

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


OTHERS = KEY | {"OPENAI_API_KEY": "sk-first", "OPENAI_API_KEY_2": "sk-second"}


def test_several_servers_have_keys_of_their_own() -> None:
    config = ServerConfig(
        base_url="https://a.example/v1, https://b.example/v1",
        model_name="big,small",
        input_price="0.5",
        output_price="2,0",
    )
    first, second = choose_teacher(config, OTHERS, 64).servers
    assert (first.base_url, first.model, first.api_key) == (
        "https://a.example/v1",
        "big",
        "sk-first",
    )
    assert (second.base_url, second.model, second.api_key) == (
        "https://b.example/v1",
        "small",
        "sk-second",
    )
    assert (first.prices, second.prices) == (Prices(0.5, 2.0), Prices(0.5, 0.0))
    one = {"OPENAI_API_KEY": "sk-first"}
    assert choose_teacher(config, one, 64).servers[1].api_key is None
    description = choose_teacher(config, one, 64).description
    assert description == (
        "big at a.example (key from OPENAI_API_KEY), else small at b.example (no key)"
    )


@pytest.mark.parametrize(
    "base_url",
    [
        "https://a.example/v1",
        "https://a.example/inference-api.nousresearch.com/v1",
        "https://inference-api.nousresearch.com.a.example/v1",
        "https://inference-api.nousresearch.com:8443/v1",
        "https://inference-api.nousresearch.com.:443/v1",
        r"https://inference-api.nousresearch.com\.a.example/v1",
        "http://inference-api.nousresearch.com/v1",
        "http://127.0.0.1:8000/v1",
    ],
)
def test_the_key_for_hermes_goes_to_no_other_server(base_url) -> None:
    config = ServerConfig(base_url=base_url, model_name="m")
    (server,) = choose_teacher(config, KEY, 64).servers
    assert server.api_key is None
    assert server.key_variable == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    "base_url", [HERMES_BASE_URL, "https://Inference-API.NousResearch.com:443/v1"]
)
def test_the_key_for_hermes_goes_to_its_own_server_in_any_place(base_url) -> None:
    config = ServerConfig(base_url=f"https://a.example/v1,{base_url}", model_name="m")
    other, hermes = choose_teacher(config, OTHERS, 64).servers
    assert (other.api_key, hermes.api_key) == ("sk-first", "sk-secret")
    assert hermes.key_variable == "ATROPOS_HERMES_API_KEY"
    assert choose_teacher(config, {"OPENAI_API_KEY_2": "sk"}, 64).servers[1].api_key is None


def test_no_key_in_clear_text_beyond_this_machine() -> None:
    url = "http://a.example/v1"
    with pytest.raises(UsageError, match=r"^`base_url` 'http://a.example/v1': .*OPENAI_API_KEY"):
        choose_teacher(ServerConfig(base_url=url, model_name="m"), OTHERS, 64)
    (server,) = choose_teacher(ServerConfig(base_url=url, model_name="m"), KEY, 64).servers
    assert server.api_key is None, "without a key there is nothing to hide"
    asked_for = ServerConfig(base_url=url, model_name="m", allow_clear_text=True)
    (server,) = choose_teacher(asked_for, OTHERS, 64).servers
    assert server.api_key == "sk-first"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_clear_text_is_no_matter_on_this_machine(host) -> None:
    config = ServerConfig(base_url=f"http://{host}:8000/v1", model_name="m")
    assert choose_teacher(config, OTHERS, 64).servers[0].api_key == "sk-first"


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost.a.example", "127.0.0.1.a.example"])
def test_what_only_looks_like_this_machine_is_another(host) -> None:
    with pytest.raises(UsageError, match="in clear text"):
        choose_teacher(ServerConfig(base_url=f"http://{host}/v1", model_name="m"), OTHERS, 64)


def test_clear_text_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first-and-secret")
    (tmp_path / "run.yaml").write_text(
        "env: {engine: native, reupload: true}\n"  # refused too, but later
        "openai: {base_url: 'http://a.example/v1', model_name: m}",
        encoding="utf-8",
    )
    assert main(["process", "--config", "run.yaml"]) == 2
    error = capsys.readouterr().err
    assert "in clear text" in error
    assert error.count("\n") == 1
    assert "sk-first" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


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
    if "model_name" not in values:
        with pytest.raises(UsageError, match=message):
            TeacherServer(values["base_url"], "m", None, "x")


@pytest.mark.parametrize(("cores", "beside_the_teacher", "alone"), [(1, 1, 1), (6, 3, 6)])
def test_threads_are_for_the_cores_that_are_lent(cores, beside_the_teacher, alone, monkeypatch):
    """A container or a batch system may assign fewer cores than the machine has."""
    for module in (choice, usable):
        monkeypatch.setattr(module, "usable_cores", lambda: cores)
    assert compute_threads(choose_teacher(ServerConfig(), {}, 64)) == beside_the_teacher
    assert compute_threads(choose_teacher(ServerConfig(), KEY, 64)) == alone
