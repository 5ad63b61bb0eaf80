"""Flags: their fields, suggestions for typos, and that no other package knows flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import quantum_hybrid
from quantum_hybrid.cli.atropos_flags import ATROPOS
from quantum_hybrid.cli.flags import OURS, Parser, add_settings_flags, in_flags, suggestion
from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.teacher import TeacherServer
from quantum_hybrid.teacher.faults import Fault, failure


def test_a_field_in_backticks_becomes_its_flag_and_nothing_else_does() -> None:
    message = (
        "`seed` 1 and `base_url`, `make setup`, seed, `seeds`, `rollout_server_url`, `run` 'x'"
    )
    assert in_flags(message) == (
        "--env.seed 1 and --openai.base_url, `make setup`, seed, `seeds`, "
        "--env.rollout_server_url, --run 'x'"
    )


def test_what_a_server_said_stays_as_it_is() -> None:
    said = "HTTP 400: `temperature` must be (2.0|less)"
    message = f"`temperature`: refused: {said}; lower `temperature`"
    assert in_flags(message, ["", said]) == (
        f"--env.temperature: refused: {said}; lower --env.temperature"
    )


def test_a_teacher_s_refusal_is_quoted_word_for_word() -> None:
    server = TeacherServer("http://a/v1", "m", None, "a")
    fault = Fault("refused", "HTTP 400: ", "`temperature` and `seed` do not go together")
    error = failure(server, fault, 1, "`model_name`")
    assert "`temperature` and `seed`" in str(error)
    assert "it offers: `model_name`" in str(error)
    assert in_flags(str(error), error.quoted) == str(error)


@pytest.mark.parametrize(
    ("flag", "known", "expected"),
    [
        ("--env.n_qubit", OURS, ": did you mean --env.n_qubits?"),
        ("--n_qubits", OURS, ": did you mean --env.n_qubits?"),
        ("--env.rollout_server_url", OURS, ": it is Atropos's, for serve and evaluate"),
        (
            "--env.rollout_server_urll",
            OURS,
            ": did you mean --env.rollout_server_url, which is for serve and evaluate?",
        ),
        (
            "--env.rollout_server_urll",
            [*OURS, *ATROPOS],
            ": did you mean --env.rollout_server_url?",
        ),
        ("--env.zzz", OURS, ": see --help"),
    ],
)
def test_what_a_wrong_flag_may_have_meant(flag, known, expected) -> None:
    assert suggestion(flag, known) == expected


def test_every_field_is_a_flag_with_its_own_words(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    parser = Parser()
    add_settings_flags(parser)
    shown = " ".join(parser.format_help().split())
    for model in (RunConfig, ServerConfig):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert " ".join(field.description.split()) in shown


def test_atropos_has_the_flags_that_are_listed_as_its_own() -> None:
    from atroposlib.envs.base import APIServerConfig, BaseEnvConfig
    from atroposlib.envs.server_handling.server_manager import ServerManagerConfig

    fields = [f"--env.{name}" for name in BaseEnvConfig.model_fields]
    fields += [f"--openai.{name}" for name in APIServerConfig.model_fields]
    fields += [f"--{name}" for name in ServerManagerConfig.model_fields]
    assert set(ATROPOS) == set(fields) - {*OURS, "--openai.api_key"}


def test_no_library_names_a_flag() -> None:
    package = Path(quantum_hybrid.__file__).parent
    libraries = [f for f in package.rglob("*.py") if f.relative_to(package).parts[0] != "cli"]
    assert libraries
    named = [f.name for f in libraries if re.search(r"--(env|openai)\.", f.read_text("utf-8"))]
    assert named == []
