"""API keys in the command line or a `--config` file are refused and not repeated."""

from __future__ import annotations

import pytest

from quantum_hybrid.cli import main

VARIABLES = ["ATROPOS_HERMES_API_KEY", "OPENAI_API_KEY", "OPENAI_API_KEY_2"]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "arguments",
    [
        ["process", "--env.n_qubits=0", "--env.wandb_name", "x-sk-a-long-secret-key"],
        ["process", "--env.n_qubits=0", "--openai.base_url=http://a/v1/sk-a-long-secret-key"],
        ["serve", "--openai.api_key", "another-key"],
        ["evaluate", "--openai.api_key=another-key"],
    ],
)
def test_a_key_in_the_command_line_is_refused_and_not_repeated(
    arguments, variable, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "sk-a-long-secret-key")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "keys are read from the environment only" in error
    assert "secret" not in error
    assert "another-key" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["serve", "evaluate"])
@pytest.mark.parametrize("flag", [["--config", "run.yaml"], ["--config=run.yaml"]], ids=len)
def test_a_key_in_a_file_for_atropos_is_refused_and_not_repeated(
    verb, flag, tmp_path, monkeypatch, capsys
) -> None:
    """Atropos's own command line would print every value that it reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "openai: [{base_url: http://a/v1, api_key: sk-a-secret}]", encoding="utf-8"
    )
    assert main([verb, *flag]) == 2
    shown = capsys.readouterr()
    assert "keys are read from the environment only" in shown.err
    assert "sk-a-secret" not in shown.err + shown.out
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("verb", ["process", "serve", "evaluate"])
def test_a_key_anywhere_in_a_file_is_refused_and_not_repeated(
    verb, variable, tmp_path, monkeypatch, capsys
) -> None:
    """A run records its configuration, which must not hold a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "sk-a-long-secret-key")
    (tmp_path / "run.yaml").write_text(
        "env: {wandb_name: x-sk-a-long-secret-key, n_qubits: 0}", encoding="utf-8"
    )
    assert main([verb, "--config", "run.yaml"]) == 2
    shown = capsys.readouterr()
    assert "keys are read from the environment only" in shown.err
    assert "secret" not in shown.err + shown.out
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
