"""The command line as a user meets it: real processes, their exit status and what they print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from processes import launch
from quantum_hybrid.cli import main
from quantum_hybrid.config_file import read_config_file

ATROPOS = Path(__file__).parents[1] / "atropos.py"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ATROPOS), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env.n_qubits", "0"], "--env.n_qubits 0: must be from 1 to 20"),
        (["--env.n_qubits", "1000"], "--env.n_qubits 1000: must be from 1 to 20"),
        (["--env.n_qubits", "many"], "--env.n_qubits: invalid int value: 'many'"),
        (["--env.n_layers", "-1"], "--env.n_layers -1: must be from 1 to 100"),
        (["--env.n_layers=-1"], "--env.n_layers -1: must be from 1 to 100"),
        (["--env.group_size", "0"], "--env.group_size 0: must be from 1 to 128"),
        (["--env.mixing", "average"], "--env.mixing: invalid choice: 'average'"),
        (["--env.quantum_weight", "-1"], "--env.quantum_weight -1.0: must be at least 0"),
        (["--env.base_model_name", "./no/such"], "'./no/such': no such model folder"),
        (["--env.base_model_name", "a b"], "'a b': must be embedded, a local folder, or a hub"),
        (["--env.run_dir", "/proc/no/run"], "--env.run_dir '/proc/no/run': cannot be written"),
        (["--env.n_qubit", "4"], "unknown argument --env.n_qubit: did you mean --env.n_qubits?"),
        (["--openai.api_key", "sk-1"], "keys are read from the environment only"),
        (["--env.use_wandb", "maybe"], "invalid value 'maybe': must be true or false"),
        (["--config", "absent.yaml"], "--config absent.yaml: cannot be read"),
        (["--openai.model_name", "m"], "--openai.model_name 'm': needs ATROPOS_HERMES_API_KEY"),
        (["--env.eval_prompts", "999"], "--env.eval_prompts 999: the test split has"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATROPOS_HERMES_API_KEY", raising=False)
    assert main(["process", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert "sk-1" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_real_process_refuses_before_anything_heavy_is_imported(tmp_path) -> None:
    script = (
        "import sys; from quantum_hybrid.cli import main\n"
        "assert main(['process', '--env.n_qubits', '0']) == 2\n"
        "assert main(['process', '--env.base_model_name', './absent']) == 2\n"
        "print([name for name in ('torch', 'transformers', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert run("process", "--env.n_qubits", "0", cwd=tmp_path).returncode == 2


def test_help_names_every_flag_with_its_meaning(tmp_path) -> None:
    done = run("process", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--env.quantum_weight" in done.stdout
    assert "Weight of the quantum pathway's contribution" in done.stdout
    assert "--openai.base_url" in done.stdout


def test_no_verb_prints_the_help(capsys) -> None:
    assert main([]) == 2
    assert "process" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env: {n_qubits: 0}", "--env.n_qubits 0"),
        ("env: {n_qubit: 4}", "env.n_qubit: did you mean --env.n_qubits?"),
        ("env: {n_qubits: '4'}", "env.n_qubits '4': must be a int"),
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
        ("other: {}", "must hold the sections env: and openai: only"),
    ],
)
def test_a_bad_yaml_file_is_named(text, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    assert main(["process", "--config", "run.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_a_list_of_servers_is_read_as_atropos_writes_it(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "openai:\n"
        "  - {base_url: 'http://a/v1', model_name: big, input_price: 0.5, output_price: 2}\n"
        "  - {base_url: 'http://b/v1', model_name: small, timeout: 9}\n"
    )
    assert read_config_file(str(path))["openai"] == {
        "base_url": "http://a/v1,http://b/v1",
        "model_name": "big,small",
        "input_price": "0.5,",
        "output_price": "2,",
        "timeout": 9.0,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["process", "--env.wandb_name", "x-sk-a-long-secret-key"],
        ["process", "--openai.base_url=http://a/v1/sk-a-long-secret-key"],
        ["serve", "--openai.api_key", "another-key"],
        ["evaluate", "--openai.api_key=another-key"],
    ],
)
def test_a_key_in_the_command_line_is_refused_and_not_repeated(
    arguments, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATROPOS_HERMES_API_KEY_2", "sk-a-long-secret-key")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "keys are read from the environment only" in error
    assert "secret" not in error
    assert "another-key" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["process", "--env.group_size", "2"], "--env.group_size 2: must be at least the number"),
        (["serve"], "serve: takes one process; only process takes more"),
        (["cache", "ls"], "cache: takes one process"),
    ],
    ids=str,
)
def test_what_does_not_go_with_several_processes_is_said_before_they_meet(
    arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in launch(0, 3, 1).items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "x"}, "RANK=x in the environment: must be from 0 to 2"),
        ({"RANK": "3"}, "RANK=3 in the environment: must be from 0 to 2"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment: must be from 1 to"),
        ({"LOCAL_WORLD_SIZE": "4"}, "LOCAL_WORLD_SIZE=4 in the environment: must be from 1 to 3"),
        ({"RANK": "1", "MASTER_PORT": "99999"}, "the run's other processes cannot be met"),
    ],
    ids=str,
)
def test_what_a_launcher_cannot_have_said_is_one_line(
    variables, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (launch(0, 3, 1) | variables).items():
        monkeypatch.setenv(name, value)
    assert main(["process", "--env.group_size", "8"]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_of_several_processes_shows_the_help(monkeypatch, capsys) -> None:
    for name, value in launch(1, 3, 1).items():
        monkeypatch.setenv(name, value)
    assert main(["process", "--help"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verb", ["serve", "evaluate"])
@pytest.mark.parametrize("flag", [["--config", "run.yaml"], ["--config=run.yaml"]], ids=len)
def test_a_key_in_a_file_for_atropos_is_refused_and_not_repeated(
    verb, flag, tmp_path, monkeypatch, capsys
) -> None:
    """Its own command line prints all that it reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("openai: [{base_url: http://a/v1, api_key: sk-a-secret}]")
    assert main([verb, *flag]) == 2
    shown = capsys.readouterr()
    assert "keys are read from the environment only" in shown.err
    assert "sk-a-secret" not in shown.err + shown.out
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_flag_overrides_the_yaml_file(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("env: {n_qubits: 4, n_layers: 0}")
    assert main(["process", "--config", "run.yaml", "--env.n_layers", "-7"]) == 2
    assert "--env.n_layers -7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["tensor_network", "--env.n_layers", "12"], "n_layers=12 is too many for engine="),
        (["native", "--env.reupload", "true"], "reupload=True is not for engine='native'"),
    ],
)
def test_a_circuit_that_the_engine_cannot_run_leaves_no_run(
    flags, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["process", "--env.run_dir", "run", "--env.engine", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --env.engine {flags[0]}: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
