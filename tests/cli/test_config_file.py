"""The `--config` file: what it sets, and how a wrong entry is named."""

from __future__ import annotations

import pytest

from quantum_hybrid.cli import main
from quantum_hybrid.cli.config_file import read_config_file
from quantum_hybrid.cli.flags import OURS


def test_what_a_file_sets_counts_as_set(complete, tmp_path, capsys) -> None:
    (tmp_path / "run.yaml").write_text(f"env: {{run_dir: {complete}, seed: 0}}", encoding="utf-8")
    assert main(["serve", "--config", str(tmp_path / "run.yaml")]) == 2
    where = f"error: --config {tmp_path / 'run.yaml'}: --env.seed 0: --env.run_dir '{complete}'"
    assert capsys.readouterr().err.startswith(where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env: {n_qubits: 0}", "--config run.yaml: --env.n_qubits 0: must be from 1 to 20"),
        ("env: {rollout_server_url: u}", "env.rollout_server_url: it is Atropos's, for serve"),
        ("env: {n_qubits: [4]}", "env.n_qubits: must be one value"),
        ("slurm: true", "must hold the sections env: and openai: only"),
        ("env: {n_qubit: 4}", "env.n_qubit: did you mean --env.n_qubits?"),
        ("env: {n_qubits: '4'}", "env.n_qubits '4': must be a whole number"),
        ("env: {mixing: average}", "env.mixing 'average': must be one of logits, probability"),
        ("[1, 2]", "must hold the sections env: and openai: only"),
        ("env: [", "not a YAML file"),
        ("openai: [{base_url: 'http://a/v1'}, {model_name: m}]", "every server of a list must"),
        ("openai: [3]", "openai: must be a mapping"),
        (
            "openai: [{base_url: 'http://a', timeout: 1}, {base_url: 'http://b', timeout: 2}]",
            "timeout must be the same for all servers",
        ),
        ("openai: {api_key: sk-1}", "keys are read from the environment only"),
        ("env:\n  seed: -1\n  'seed': -1", "--config run.yaml: line 3: seed is set twice"),
        ("env: {seed: -1, seed: -1}", "--config run.yaml: line 1: seed is set twice"),
        ("env: {seed: -1}\nenv: {seed: -1}", "--config run.yaml: line 2: env is set twice"),
        ("openai: [{base_url: a,\n base_url: b}]", "line 2: base_url is set twice"),
        ("env: &a {n_qubits: [*a]}", "env.n_qubits: must be one value"),
        ("env: {wandb_name: 2026-13-01}", "not a YAML file: month must be in 1..12"),
        ("[" * 9999, "not a YAML file: maximum recursion depth exceeded"),
        ("other: {}", "must hold the sections env: and openai: only"),
    ],
)
def test_a_bad_yaml_file_is_named(text, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    assert main(["process", "--config", "run.yaml"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "# env:", "env:\n  # seed: 1\nopenai:\n", "env: {}"])
def test_a_file_of_comments_sets_nothing(text, tmp_path) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    assert read_config_file(str(tmp_path / "run.yaml"), OURS) == {}


def test_a_list_of_servers_is_read_as_atropos_writes_it(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "openai:\n"
        "  - {base_url: 'http://a/v1', model_name: big, input_price: 0.5, output_price: 2}\n"
        "  - {base_url: 'http://b/v1', model_name: small, timeout: 9}\n",
        encoding="utf-8",
    )
    assert read_config_file(str(path), OURS) == {
        "--openai.base_url": "http://a/v1,http://b/v1",
        "--openai.model_name": "big,small",
        "--openai.input_price": "0.5,",
        "--openai.output_price": "2,",
        "--openai.timeout": 9.0,
    }


@pytest.mark.parametrize("entry", ["{env: {%s: 1}}", "{env: {seed: %s}}", "{env: [%s}"])
def test_a_line_about_somebody_s_file_acts_on_no_terminal(
    entry, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f'"a\\e[31m\\u202e\\n\\r{"x" * 900}"'
    (tmp_path / "run.yaml").write_text(entry % name, encoding="utf-8")
    assert main(["process", "--config", "run.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --config run.yaml: ")
    assert error.removesuffix("\n").isprintable()
    assert len(error) < 2100


def test_a_flag_overrides_the_yaml_file(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("env: {n_qubits: 4, n_layers: 0}", encoding="utf-8")
    assert main(["process", "--config", "run.yaml", "--env.n_layers", "-7"]) == 2
    assert "--env.n_layers -7" in capsys.readouterr().err
