"""The main job end to end: a real teacher, a real tiny backbone, real files and signals."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from quantum_hybrid.cli import main
from quantum_hybrid.run.tracking import read_metrics
from quantum_hybrid.student import HybridForCausalLM
from quantum_hybrid.teacher import EmbeddedTeacher
from quantum_hybrid.text.encoder import IGNORED
from quantum_hybrid.text.prompts import built_in_prompts, split_of
from scripted_server import ScriptedServer

ATROPOS = Path(__file__).parents[2] / "atropos.py"
KEY = "sk-a-key-that-must-stay-secret"
VOLATILE = ("time_s", "train/tokens_per_second")
STEPS = 4
TRAIN = [
    "train/hybrid_loss",
    "train/classical_loss",
    "train/quantum_loss",
    "train/alpha_value",
    "train/reward",
    "train/quantum_coherence",
    "train/quantum_entanglement",
    "train/quantum_gradient_norm",
]
EVAL = [
    "eval/hybrid_performance",
    "eval/quantum_weight",
    "eval/perplexity_hybrid",
    "eval/perplexity_classical",
    "eval/perplexity_quantum",
    "eval/quantum_ablation",
    "eval/kl_to_teacher",
    "model/alpha",
    "model/quantum_contribution",
]


@pytest.fixture(autouse=True)
def workplace(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """An empty folder to work in, the embedded model's conversion, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATROPOS_HERMES_API_KEY", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def flags(tiny_llama: Path) -> list[str]:
    """A run of a few seconds."""
    values = {
        "base_model_name": tiny_llama,
        "total_steps": STEPS,
        "warmup_steps": 1,
        "steps_per_eval": 2,
        "group_size": 2,
        "max_token_length": 8,
        "eval_prompts": 3,
        "n_qubits": 3,
        "n_layers": 2,
    }
    return [part for name, value in values.items() for part in (f"--env.{name}", str(value))]


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory) -> Path:
    """An unbroken run."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ATROPOS_HERMES_API_KEY", raising=False)
        assert main(["process", "--env.run_dir", str(run), *flags]) == 0
    return run


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def figures(run: Path) -> list[dict[str, Any]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def same_student(one: Path, other: Path) -> bool:
    a, b = (load_file(run / "student" / "model.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_a_run_leaves_everything_that_explains_it(finished) -> None:
    run = finished
    shown = (run / "log.txt").read_text(encoding="utf-8")
    assert "teacher   embedded SmolLM2-135M-Instruct" in shown
    assert "The quantum pathway was worth" in shown

    rows = read_metrics(run / "metrics.jsonl")
    train = [row for row in rows if "train/hybrid_loss" in row]
    evaluations = [row for row in rows if "eval/hybrid_loss" in row]
    assert [row["step"] for row in train] == [1, 2, 3, 4]
    assert [row["step"] for row in evaluations] == [0, 2, 4]
    assert all(name in row for row in train for name in TRAIN)
    assert all(name in row for row in evaluations for name in EVAL)

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["env"]["n_qubits"] == 3
    assert config["versions"]["torch"]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["last"]["eval/hybrid_loss"] == evaluations[-1]["eval/hybrid_loss"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((run / "tensorboard").glob("events*"))) == 1
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    student = HybridForCausalLM.from_pretrained(run / "student")
    assert student.config.n_qubits == 3


def test_the_groups_are_the_teachers_text_and_only_answers_are_targets(
    finished, tiny_llama
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    prompts = {prompt.text: prompt for prompt in built_in_prompts().prompts}
    groups = json_lines(finished / "groups.jsonl")
    assert len(groups) == STEPS
    for group in groups:
        assert len(group["tokens"]) == len(group["masks"]) == len(group["scores"]) == 2
        assert all(-1 <= score <= 1 for score in group["scores"])
        for tokens, mask, (user, assistant) in zip(
            group["tokens"], group["masks"], group["messages"], strict=True
        ):
            assert split_of(prompts[user["content"]].text) == "train"
            n_context = mask.count(IGNORED)
            assert mask == [IGNORED] * n_context + tokens[n_context:]
            assert user["content"] in tokenizer.decode(tokens[:n_context])
            answer = tokenizer.decode(tokens[n_context:], skip_special_tokens=True)
            assert answer == assistant["content"]
    held_out = json_lines(finished / "held_out.jsonl")
    assert all(split_of(row["prompt"]["text"]) == "test" for row in held_out)


def test_the_teachers_text_is_what_is_trained_on(finished) -> None:
    """The first step's loss equals the initial student's loss on the tokens in groups.jsonl."""
    import torch
    import torch.nn.functional as F

    from quantum_hybrid.config import RunConfig
    from quantum_hybrid.training import Learner

    config = json.loads((finished / "config.json").read_text(encoding="utf-8"))["env"]
    student = Learner(RunConfig(**config), built_in_prompts().calibration(config["seed"])).model
    group = json_lines(finished / "groups.jsonl")[0]
    losses = []
    for tokens, mask in zip(group["tokens"], group["masks"], strict=True):
        logits = student(input_ids=torch.tensor([tokens])).logits[0, :-1]
        losses.append(F.cross_entropy(logits, torch.tensor(mask[1:]), reduction="none"))
    per_token = torch.cat([loss[loss != 0] for loss in losses])
    logged = read_metrics(finished / "metrics.jsonl")[1]["train/hybrid_loss"]
    assert per_token.mean().item() == pytest.approx(logged, abs=1e-4)


def test_the_same_teacher_text_and_seed_give_the_same_numbers(flags, finished, workplace) -> None:
    assert main(["process", "--env.run_dir", "two", *flags]) == 0
    assert figures(finished) == figures(workplace / "two")
    assert same_student(finished, workplace / "two")
    teacher = json.loads((workplace / "two" / "summary.json").read_text(encoding="utf-8"))[
        "teacher"
    ]
    assert (teacher["requests"], teacher["answers_from_cache"]) == (0, STEPS * 2 + 3)
    assert main(["process", "--env.run_dir", "other", "--env.seed", "1", *flags]) == 0
    assert figures(finished) != figures(workplace / "other")


def test_a_log_of_evaluate_has_no_progress_bar(finished, workplace) -> None:
    log = workplace / "log"
    command = [sys.executable, str(ATROPOS), "evaluate", "--env.run_dir", str(finished)]
    with log.open("w", encoding="utf-8") as file:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=file, check=True)
    assert log.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_end(
    flags, finished, workplace, number
) -> None:
    command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", "stopped", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1 "):
                process.send_signal(number)
                break
        rest, errors = process.communicate()
    assert process.returncode == 128 + number
    assert f"Go on with: python {shlex.quote(str(ATROPOS))} process --env.run_dir stopped" in rest
    assert "Traceback" not in errors
    assert not (workplace / "stopped" / "summary.json").exists()
    assert main(["process", "--env.run_dir", "stopped"]) == 0
    assert figures(workplace / "stopped") == figures(finished)
    assert same_student(workplace / "stopped", finished)
    groups = [
        (run / "groups.jsonl").read_text(encoding="utf-8")
        for run in (workplace / "stopped", finished)
    ]
    assert groups[0] == groups[1]


def test_a_killed_run_resumes_from_its_checkpoint(flags, finished, workplace) -> None:
    command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", "killed", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3 "):
                process.kill()
                break
    assert main(["process", "--env.run_dir", "killed"]) == 0
    assert figures(workplace / "killed") == figures(finished)
    assert same_student(workplace / "killed", finished)


def test_a_finished_run_is_left_alone(finished, capsys) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    assert main(["process", "--env.run_dir", str(finished)]) == 0
    assert "is complete; nothing was done" in capsys.readouterr().out
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_run_is_resumed_with_its_own_flags_only(finished, capsys) -> None:
    assert main(["process", "--env.run_dir", str(finished), "--env.seed", "7"]) == 2
    error = capsys.readouterr().err
    assert f"--env.seed 7: --env.run_dir '{finished}' resumes a run made with 0" in error


@pytest.mark.parametrize("mixing", ["probability"])
def test_the_other_mixing_and_a_full_backbone_train_too(flags, workplace, mixing) -> None:
    extra = ["--env.mixing", mixing, "--env.train_backbone", "full", "--env.entangler", "chain"]
    assert main(["process", "--env.run_dir", "run", *flags, *extra]) == 0
    first, *_, last = [r for r in figures(workplace / "run") if "eval/hybrid_loss" in r]
    assert first["eval/hybrid_loss"] != last["eval/hybrid_loss"]


def test_any_openai_compatible_server_is_a_teacher_and_the_key_stays_secret(
    flags, workplace, monkeypatch, capsys
) -> None:
    with EmbeddedTeacher() as teacher:
        key = teacher.server.api_key
        assert key
        monkeypatch.setenv("OPENAI_API_KEY", key)
        url = teacher.server.base_url
        assert main(["process", "--env.run_dir", "run", "--openai.base_url", url, *flags]) == 0
    shown = capsys.readouterr()
    assert "the only model at 127.0.0.1" in shown.out
    assert key not in shown.out + shown.err
    written = [path for path in (workplace / "run").rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if key.encode() in path.read_bytes()]


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that refuses every key."""

    requests: int

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"error": {"message": "invalid key"}}')

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output quiet."""


def test_a_wrong_key_stops_at_the_first_401(flags, monkeypatch, capsys) -> None:
    Refusing.requests = 0
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        assert main(["process", "--env.run_dir", "run", "--openai.base_url", url, *flags]) == 1
        server.shutdown()
    assert Refusing.requests == 1
    error = capsys.readouterr().err
    assert "refused the API key" in error
    assert KEY not in error


def test_an_unreachable_api_teacher_stops_the_run(flags, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    url = "http://127.0.0.1:9/v1"
    assert main(["process", "--env.run_dir", "run", "--openai.base_url", url, *flags]) == 1
    shown = capsys.readouterr()
    assert "cannot be reached" in shown.err
    assert "embedded" not in shown.out


def test_two_processes_cannot_share_a_run(flags, workplace) -> None:
    from quantum_hybrid.errors import UsageError
    from quantum_hybrid.run.directory import RunDirectory
    from quantum_hybrid.run.plan import resolve

    plan = resolve({"run_dir": "run"}, {})
    with (
        RunDirectory.open(plan),
        pytest.raises(UsageError, match="another process"),
        RunDirectory.open(plan),
    ):
        raise AssertionError


def test_no_process_is_left_behind(flags, workplace) -> None:
    command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", "run", *flags]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        group = os.getpgid(process.pid)
        assert process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_run_that_learns_from_log_probabilities_resumes_to_the_same_end(flags, workplace) -> None:
    extra = [*flags, "--env.distill_top_logprobs", "5", "--env.distill_temperature", "2"]
    assert main(["process", "--env.run_dir", "whole", *extra]) == 0
    shown = (workplace / "whole" / "log.txt").read_text(encoding="utf-8")
    assert "shared by teacher and student: tokenizer fingerprint" in shown
    train = [row for row in figures(workplace / "whole") if "train/hybrid_loss" in row]
    # Of an answer that ends by itself, the last token is one that the teacher says nothing of.
    assert all(0.7 <= row["train/kl_rows"] <= 1 for row in train)
    assert all(row["train/kl_to_teacher"] > 0 for row in train)
    command = [sys.executable, str(ATROPOS), "process", "--env.run_dir", "stopped", *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1 "):
                process.send_signal(signal.SIGINT)
                break
        process.communicate()
    assert main(["process", "--env.run_dir", "stopped"]) == 0
    assert figures(workplace / "stopped") == figures(workplace / "whole")
    assert same_student(workplace / "stopped", workplace / "whole")


@pytest.mark.parametrize("is_known", [True, False], ids=["embedded", "a server"])
def test_another_vocabulary_is_no_teacher_of_log_probabilities(
    flags, small_llama, workplace, monkeypatch, capsys, is_known
) -> None:
    extra = ["--env.base_model_name", str(small_llama), "--env.distill_top_logprobs", "5"]
    given = ["process", "--env.run_dir", "run", *flags, *extra]
    if is_known:
        assert main(given) == 2
        words = "the teacher's vocabulary is not the student's (tokenizer fingerprints"
    else:
        with EmbeddedTeacher() as teacher:
            monkeypatch.setenv("OPENAI_API_KEY", teacher.server.api_key or "")
            assert main([*given, "--openai.base_url", teacher.server.base_url]) == 2
        words = "the teacher's vocabulary is not the student's: the teacher's token"
    shown = capsys.readouterr()
    assert words in shown.err
    assert "start a new run without --env.distill_top_logprobs" in shown.err
    assert "Go on with" not in shown.out
    assert not (workplace / "run").exists()


TOP_5 = ["--env.distill_top_logprobs", "5"]
ULD = [*TOP_5, "--env.distill_loss", "uld"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (TOP_5, "sends no log-probabilities"),
        (ULD, "--env.distill_loss uld: the teacher sends no log-probabilities"),
    ],
    ids=["by token", "by rank"],
)
def test_a_server_without_log_probabilities_is_no_teacher_of_them(
    flags, workplace, monkeypatch, capsys, extra, message
) -> None:
    server = ScriptedServer()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    url = ["--openai.base_url", server.base_url, "--openai.model_name", "m"]
    try:
        assert main(["process", "--env.run_dir", "run", *flags, *url, *extra]) == 2
    finally:
        server.close()
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert len(server.chats()) == 3  # the held-out answers
    assert not (workplace / "run").exists()


@pytest.mark.parametrize("is_known", [True, False], ids=["embedded", "a server"])
def test_another_vocabulary_is_a_teacher_of_probabilities_by_rank(
    flags, small_llama, workplace, monkeypatch, is_known
) -> None:
    extra = [*flags, "--env.base_model_name", str(small_llama), *ULD]
    given = ["process", "--env.run_dir", "run", *extra]
    if is_known:
        assert main(given) == 0
    else:
        with EmbeddedTeacher() as teacher:
            monkeypatch.setenv("OPENAI_API_KEY", teacher.server.api_key or "")
            assert main([*given, "--openai.base_url", teacher.server.base_url]) == 0
    shown = (workplace / "run" / "log.txt").read_text(encoding="utf-8")
    assert "log-probabilities: uld, weight 1, temperature 1" in shown
    assert "can be compared with the teacher's" in shown
    train = [row for row in figures(workplace / "run") if "train/hybrid_loss" in row]
    assert len(train) == STEPS
    # Of an answer that ends by itself, the last token has no text.
    assert all(0.8 <= row["train/uld_rows"] <= 1 for row in train)
    assert sum(row["train/uld_rows"] for row in train) > 0.9 * STEPS
    assert all(0 < row["train/uld"] < 2 for row in train)
    assert not any("eval/kl_to_teacher" in row for row in figures(workplace / "run"))
