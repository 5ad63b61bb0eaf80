"""The command line: real processes, their exit status and their output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from misbehaving_server import ACTING
from processes import launch
from quantum_hybrid.cli import main
from quantum_hybrid.teacher.cache import AnswerCache, answers_path
from quantum_hybrid.text import built_in_prompts
from tiny_runs import contents

ATROPOS = Path(__file__).parents[2] / "atropos.py"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ATROPOS), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env.n_qubits", "0"], "--env.n_qubits 0: must be from 1 to 20"),
        (["--env.n_qubits", "1000"], "--env.n_qubits 1000: must be from 1 to 20"),
        (
            ["--env.n_qubits", "many"],
            "--env.n_qubits: invalid value 'many': must be a whole number",
        ),
        (["--env.n_layers", "-1"], "--env.n_layers -1: must be from 1 to 100"),
        (["--env.n_layers=-1"], "--env.n_layers -1: must be from 1 to 100"),
        (["--env.group_size", "0"], "--env.group_size 0: must be from 1 to 128"),
        (["--env.mixing", "average"], "--env.mixing: invalid choice: 'average'"),
        (["--env.quantum_weight", "-1"], "--env.quantum_weight -1.0: must be at least 0"),
        (["--env.base_model_name", "./no/such"], "'./no/such': no such model folder"),
        (["--env.base_model_name", "a b"], "'a b': must be embedded, a local folder, or a hub"),
        (["--env.run_dir", "/proc/no/run"], "--env.run_dir '/proc/no/run': cannot be written"),
        (["--env.run_dir", ""], "--env.run_dir '': must name a directory, a new one or that of a"),
        (["--env.run_dir", "~nobody-here/x"], "--env.run_dir '~nobody-here/x': no home directory"),
        (
            ["--env.base_model_name", "~nobody-here"],
            "--env.base_model_name '~nobody-here': no home",
        ),
        (
            ["--env.data_path_to_save_groups", "~nobody-here/x"],
            "'~nobody-here/x': no home directory",
        ),
        (
            ["--env.data_path_to_save_groups", "no/such/groups.jsonl"],
            "--env.data_path_to_save_groups 'no/such/groups.jsonl': cannot be written: No such",
        ),
        (
            ["--env.run_dir", "run", "--env.data_path_to_save_groups", "x" * 300],
            "xxx': cannot be written: File name too long",
        ),
        (["--env.n_qubit", "4"], "unknown argument --env.n_qubit: did you mean --env.n_qubits?"),
        (["--openai.api_key", "sk-1"], "keys are read from the environment only"),
        (["--env.use_wandb", "maybe"], "invalid value 'maybe': must be true or false"),
        (["--config", "absent.yaml"], "--config absent.yaml: cannot be read"),
        (["--openai.allow_clear_text", "perhaps"], "'perhaps': must be true or false"),
        (["--openai.model_name", "m"], "--openai.model_name 'm': needs ATROPOS_HERMES_API_KEY"),
        (["--env.eval_prompts", "999"], "--env.eval_prompts 999: the test split has"),
        (["--env.prompts", "absent"], "--env.prompts 'absent': cannot be read: No such file"),
        (["--env.prompts", "."], "--env.prompts '.': cannot be read: Is a directory"),
        (["--env.prompts", ""], "--env.prompts '': must not be empty"),
        (["--env.prompts", "~nobody-here/x"], "--env.prompts '~nobody-here/x': no home directory"),
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


@pytest.mark.parametrize("verb", ["process", "serve"])
@pytest.mark.parametrize(
    ("n_prompts", "n_held_out", "message"),
    [
        (40, 24, "--env.eval_prompts 24: the test split of p.txt has"),
        (40, 1, "--env.prompts 'p.txt': the train split has"),
        (0, 1, "--env.eval_prompts 1: the test split of p.txt has 0 prompts"),
    ],
)
def test_too_few_prompts_are_one_line_and_leave_nothing(
    verb, n_prompts, n_held_out, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [prompt.text for prompt in built_in_prompts().prompts[:n_prompts]]
    Path("p.txt").write_text("\n".join(texts), encoding="utf-8")
    arguments = ["--env.prompts", "p.txt", "--env.eval_prompts", str(n_held_out)]
    assert main([verb, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


@pytest.mark.parametrize("verb", ["process", "setup"])
def test_a_home_that_cannot_be_written_is_one_line_and_leaves_nothing(
    verb, tmp_path, monkeypatch, capsys
) -> None:
    """A file in place of the folder stops root too, who ignores permissions."""
    (tmp_path / "home").touch()
    for name in ("QUANTUM_HYBRID_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert main([verb]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'home'}")
    assert error.endswith("name a writable folder in QUANTUM_HYBRID_CACHE\n")
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["process", "--help"],
        ["serve", "--help"],
        ["process", "--env.n_qubits", "0"],
        ["process", "--env.base_model_name", "./absent"],
        ["process", "--env.prompts", "absent"],
        ["prompts", "--count", "0", "p.jsonl"],
        ["process", "--env.rollout_server_url", "http://a"],
        ["serve", "--env.seed", "abc"],
        ["serve", "--env.n_qubits", "0"],
        ["serve", "--env.rollout_server_urll", "http://a"],
        ["evaluate", "--env.run_dir", "absent"],
        ["device", "--run", "absent", "--device", "default.qubit"],
    ],
    ids=" ".join,
)
def test_help_and_what_is_refused_wait_for_nothing_heavy(arguments, tmp_path) -> None:
    script = (
        "import sys; from quantum_hybrid.cli import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'transformers', 'wandb', 'atroposlib'} & set(sys.modules)\n"
        "print(status, sorted(heavy), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    status = 0 if "--help" in arguments else 2
    assert done.stderr.splitlines()[-1] == f"{status} []"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "--env.run_dir", "~nobody-here/x"], "--env.run_dir"),
        (["evaluate", "--env.run_dir", "~nobody-here/x"], "--env.run_dir"),
        (["device", "--device", "default.qubit", "--run", "~nobody-here/x"], "--run"),
        (["cache", "export", "~nobody-here/x"], "FILE"),
        (
            ["evaluate", "--env.run_dir", "", "--env.data_dir_to_save_evals", "~nobody-here/x"],
            "--env.data_dir_to_save_evals",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_home_directory_that_is_not_known_is_one_line(
    arguments, named, complete, monkeypatch, capsys
) -> None:
    AnswerCache(answers_path()).close()
    monkeypatch.chdir(complete.parent)
    arguments = [argument or str(complete) for argument in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    expected = f"error: {named} '~nobody-here/x': no home directory is known for ~nobody-here\n"
    assert error == expected
    assert not Path("~nobody-here").exists()


@pytest.mark.parametrize("named", ["", "absent", "empty", "other", "other/file"])
def test_only_the_directory_of_a_run_can_be_evaluated(named, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert main(["evaluate", "--env.run_dir", named]) == 2
    expected = f"error: --env.run_dir '{named}': must be the directory of a run to evaluate\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("verb", ["process", "serve", "evaluate"])
def test_a_value_that_cannot_be_read_is_one_line(verb, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([verb, "--env.seed", "abc"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: --env.seed: invalid value 'abc': must be a whole number\n"
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_short_run_needs_no_word_about_its_warm_up(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["process", "--env.total_steps", "3", "--env.base_model_name", "./absent"]
    assert main(short) == 2
    assert (
        capsys.readouterr().err == "error: --env.base_model_name './absent': no such model folder\n"
    )
    assert main([*short, "--env.warmup_steps", "4"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --env.warmup_steps 4: must be at most --env.total_steps, which is 3\n"


@pytest.mark.parametrize("verb", ["process", "serve", "evaluate"])
@pytest.mark.parametrize(
    ("name", "value", "made_with"),
    [("seed", "0", "5"), ("train_backbone", "lora", "none"), ("n_qubits", "4", "8")],
)
def test_a_run_is_not_gone_on_with_by_other_settings_not_even_the_defaults(
    complete, verb, name, value, made_with, capsys
) -> None:
    before = contents(complete)
    given = ["--env.run_dir", str(complete), f"--env.{name}", value]
    assert main([verb, *given]) == 2
    expected = f"error: --env.{name} {value}: --env.run_dir '{complete}' resumes a run made with "
    error = capsys.readouterr().err
    assert error.startswith(expected + made_with)
    assert error.count("\n") == 1
    assert contents(complete) == before


def test_nothing_more_is_served_into_a_complete_run(complete, capsys) -> None:
    assert main(["serve", "--env.run_dir", str(complete), "--env.seed", "5"]) == 2
    assert "is a finished run and serves no more groups" in capsys.readouterr().err


def test_a_damaged_summary_is_named(complete, capsys) -> None:
    (complete / "summary.json").write_text("{", encoding="utf-8")
    assert main(["process", "--env.run_dir", str(complete)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {complete / 'summary.json'}: cannot be read: ")
    assert error.count("\n") == 1


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="root needs it to be refused anything")
@pytest.mark.parametrize("name", ["run", "./run"])
def test_a_folder_that_cannot_be_written_is_one_line(name, tmp_path) -> None:
    """Also if the run directory is relative and exists."""
    (tmp_path / "run").mkdir(mode=0o555)
    refused = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    command = [*refused, sys.executable, str(ATROPOS), "process", "--env.run_dir", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --env.run_dir 'run': cannot be written: Permission denied\n"
    assert [*(tmp_path / "run").iterdir()] == []


def test_an_unfinished_run_is_said_with_the_command_that_goes_on(complete, capsys) -> None:
    (complete / "summary.json").unlink()
    assert main(["device", "--run", str(complete), "--device", "default.qubit"]) == 2
    shown = capsys.readouterr()
    assert shown.out == f"Go on with: quantum-hybrid process --env.run_dir {complete}\n"
    assert shown.err == f"error: --run '{complete}': is not finished\n"


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("atropos.py", "python atropos.py"),
        ("../a b/atropos.py", "python '../a b/atropos.py'"),
        ("/usr/local/bin/quantum-hybrid", "quantum-hybrid"),
    ],
)
def test_the_closing_lines_name_the_command_that_was_given(
    script, command, complete, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    assert main(["process", "--env.run_dir", str(complete)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"next      another seed: {command} process --env.seed 1",
        f"          your own teacher: --openai.* in {command} process --help",
    ]
    (complete / "summary.json").unlink()
    assert main(["device", "--run", str(complete), "--device", "default.qubit"]) == 2
    again = f"Go on with: {command} process --env.run_dir {complete}\n"
    assert capsys.readouterr().out == again


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


@pytest.mark.parametrize("flag", [f"--a{ACTING}b", f"--env.run_dir={ACTING}/\0"], ids=len)
def test_a_line_about_a_flag_acts_on_no_terminal(flag, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["process", "--env.eval_prompts", "999", flag]) == 2
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["tensor_network", "--env.n_layers", "12"], "n_layers=12 is too many for engine="),
        (["native", "--env.reupload", "true"], "reupload=True is not supported by engine='native'"),
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


@pytest.mark.parametrize(
    "command",
    ["process", "setup", "device --run run --device lightning.qubit", "serve", "evaluate"],
)
def test_a_layout_that_does_not_exist_is_refused(command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTUM_HYBRID_VECTORS", "17x3")
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: QUANTUM_HYBRID_VECTORS=17x3 in the environment: must be one of")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
