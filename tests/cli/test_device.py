"""`quantum-hybrid device`: a finished run's circuits on real simulators, by the command line."""

from __future__ import annotations

import json
import math
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from quantum_hybrid.cli import main
from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.evaluation import all_answer_rows, evaluate
from quantum_hybrid.run.directory import RunDirectory, read_held_out
from quantum_hybrid.run.plan import RunPlan
from quantum_hybrid.text.encoder import IGNORED, Encoder
from quantum_hybrid.text.prompts import built_in_prompts
from quantum_hybrid.text.records import Answer, AnswerLogprobs

TEXTS = ("Six minutes.", "Yes, with a little salt.", "Warm water", "No. Try it again tomorrow!")
LOGPROBS = AnswerLogprobs(("\udce2\udc98",), (), (), ((-0.5,),), (-0.5,))
"""Of half a character, without ids: text that no encoding has, and that JSON can spell."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_student, small_llama):
    """Files of a finished run: a student of 3 qubits, four held-out answers, a summary."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    plan = RunPlan(path, RunConfig(run_dir=str(path)), ServerConfig(), resumes=False)
    prompts = built_in_prompts().in_split("test", 0)[: len(TEXTS)]
    answers = [
        Answer(p.id, 0, text, "stop", "m", LOGPROBS) for p, text in zip(prompts, TEXTS, strict=True)
    ]
    student = make_student(n_qubits=3, n_layers=2, engine="statevector")
    tokenizer = AutoTokenizer.from_pretrained(small_llama)
    with RunDirectory.open(plan) as run:
        run.write_held_out(list(zip(prompts, answers, strict=True)))
        student.save_pretrained(path / "student")
        tokenizer.save_pretrained(path / "student")
    (path / "summary.json").write_text("{}", encoding="utf-8")
    encoder = Encoder(tokenizer)
    examples = [encoder.example(*pair) for pair in zip(prompts, answers, strict=True)]
    return SimpleNamespace(path=path, student=student, examples=examples)


def device(finished, *arguments):
    return main(["device", "--run", str(finished.path), *arguments])


def kept(finished, name):
    return json.loads((finished.path / f"device-{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "qulacs.simulator"])
def test_a_noiseless_device_deviates_as_shots_alone_do(name, finished, capsys) -> None:
    seed = [] if name == "qulacs.simulator" else ["--seed", "3"]
    assert device(finished, "--device", name, "--shots", "1000", "--tokens", "999", *seed) == 0
    found = kept(finished, name)
    for circuit in ("circuit 1", "circuit 2"):
        deviation = found["device"]["expectations"][circuit]
        alone = found["shots_alone"]["expectations"][circuit]
        assert deviation != alone  # two draws
        # A root mean square of some 200 draws is known to 5 %.
        assert deviation["rms"] == pytest.approx(alone["rms"], rel=0.4)
        assert 0 < deviation["rms"] < deviation["largest"]
        assert deviation["largest"] < (6 if circuit == "circuit 1" else 40) / math.sqrt(1000)
    with torch.no_grad():
        head = finished.student.head
        hidden = all_answer_rows(finished.student, finished.examples).hidden
        z = head.quantum.circuit1(head.quantum.angles(head.classical.norm(hidden)))
    expected = ((1 - z**2) / 1000).mean().sqrt().item()
    assert found["expected_rms_of_circuit_1"] == pytest.approx(expected, rel=1e-4)
    assert found["shots_alone"]["expectations"]["circuit 1"]["rms"] == pytest.approx(
        expected, rel=0.4
    )
    # All held-out tokens were taken, so these are the run's own held-out losses.
    metrics = evaluate(finished.student, finished.examples)
    assert found["tokens"] == metrics["eval/tokens"]
    assert found["exact_loss"]["quantum"] == pytest.approx(metrics["eval/quantum_loss"], abs=1e-5)
    assert found["exact_loss"]["hybrid"] == pytest.approx(metrics["eval/hybrid_loss"], abs=1e-5)
    output = capsys.readouterr().out
    loss = found["device"]["loss"]["hybrid"]
    assert f"{loss['mean']:+.4f} +- {loss['half_width']:.4f}" in output
    assert "t(3) clustered standard errors over 4 answers" in output


def test_many_shots_come_close_to_the_exact_losses(finished) -> None:
    arguments = ["--shots", "50000", "--tokens", "999", "--seed", "4"]
    assert device(finished, "--device", "lightning.qubit", *arguments) == 0
    found = kept(finished, "lightning.qubit")["device"]
    assert found["expectations"]["circuit 2"]["largest"] < 0.1
    for loss in found["loss"].values():
        assert abs(loss["mean"]) < 0.02
        assert 0 < loss["half_width"] < 0.05


def test_qiskit_aer_with_an_option_of_its_own(finished, capsys) -> None:
    arguments = ["--device", "qiskit.aer", "--shots", "500", "--tokens", "4", "--seed", "1"]
    assert device(finished, *arguments, "--option", "optimization_level=0") == 0
    found = kept(finished, "qiskit.aer")
    assert found["options"] == {"optimization_level": 0}
    assert 0 < found["device"]["expectations"]["circuit 1"]["largest"] < 6 / math.sqrt(500)
    assert "qiskit.aer, 500 shots, optimization_level=0" in capsys.readouterr().out


def test_full_depolarisation_leaves_nothing_of_the_circuits(finished, capsys) -> None:
    """At p = 3/4 every expectation is 0. Measured - exact is then minus the exact value, and the
    quantum loss is that of the bias of `up` alone."""
    arguments = ["--device", "default.mixed", "--shots", "20000", "--tokens", "999", "--seed", "2"]
    assert device(finished, *arguments, "--depolarising", "0.75") == 0
    found = kept(finished, "default.mixed")
    noisy, alone = found["device"], found["shots_alone"]
    assert noisy["expectations"]["circuit 1"]["rms"] > 0.1
    assert alone["expectations"]["circuit 1"]["rms"] < 0.01
    log_p = torch.nn.functional.log_softmax(finished.student.head.quantum.up.bias, -1)
    targets = [t for example in finished.examples for t in example.mask if t != IGNORED]
    expected = -log_p[targets].mean().item()
    assert noisy["loss"]["quantum"]["mean"] == pytest.approx(
        expected - found["exact_loss"]["quantum"], abs=0.02
    )
    assert "depolarising 0.75 after every gate" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_table(finished, capsys) -> None:
    outputs = []
    for seed in ("5", "5", "6"):
        arguments = ["--device", "default.qubit", "--shots", "50", "--tokens", "8"]
        assert device(finished, *arguments, "--seed", seed) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_the_second_circuit_runs_on_what_was_measured_of_the_first(
    finished, monkeypatch, capsys
) -> None:
    from quantum_hybrid.run import device_check

    calls = []
    measure = device_check.DeviceCircuit.expectations

    def recorded(self, inputs, weights):
        calls.append((inputs, weights, measure(self, inputs, weights)))
        return calls[-1][2]

    monkeypatch.setattr(device_check.DeviceCircuit, "expectations", recorded)
    assert device(finished, "--device", "default.qubit", "--shots", "20", "--tokens", "3") == 0
    (_, first_weights, measured), (second_inputs, second_weights, _) = calls[:2]
    torch.testing.assert_close(second_inputs, math.pi * measured)
    quantum = finished.student.head.quantum
    assert torch.equal(first_weights, quantum.circuit1.weights)
    assert torch.equal(second_weights, quantum.circuit2.weights)


def test_one_answer_has_no_interval(finished, capsys) -> None:
    assert device(finished, "--device", "default.qubit", "--shots", "20", "--tokens", "1") == 0
    output = capsys.readouterr().out
    assert "no interval: one answer only" in output
    assert "+-" not in output
    assert kept(finished, "default.qubit")["device"]["loss"]["hybrid"]["half_width"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "0"], "--shots: invalid value '0': must be a whole number from 1"),
        (["--shots", "-5"], "--shots: invalid value '-5'"),
        (["--shots", "1e3"], "--shots: invalid value '1e3'"),
        (["--shots", "99999999"], "shots=99999999 is out of range"),
        (["--tokens", "0"], "--tokens: invalid value '0'"),
        (["--seed", "-1"], "seed=-1 must be an integer of at least 0"),
        (["--depolarising", "2"], "depolarising=2.0 must be a probability"),
        (["--depolarising", "0.1"], "device='default.qubit': "),
        (["--option", "fast"], "--option: invalid value 'fast': must be KEY=VALUE"),
        (["--option", "fast=1"], "unexpected keyword argument 'fast'"),
        (["--option", "api_key=1"], "api_key: credentials are read from the environment only"),
        (["--device", "no.such"], "device='no.such' is unknown; installed: "),
        (["--device", "braket.local.qubit"], "pip install 'amazon-braket-pennylane-plugin'"),
        (["--tokns", "3"], "unknown argument --tokns"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, message, finished, capsys) -> None:
    before = {entry.name for entry in finished.path.iterdir()}
    assert device(finished, "--device", "default.qubit", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {entry.name for entry in finished.path.iterdir()} == before


def test_a_run_that_is_not_there_or_not_finished(tmp_path, capsys) -> None:
    for run, message in ((tmp_path / "absent", "no such run"), (tmp_path, "is not finished")):
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        assert main(["device", "--run", str(run), "--device", "default.qubit"]) == 2
        assert re.fullmatch(rf"error: --run '{run}': {message}.*\n", capsys.readouterr().err)


def test_a_damaged_run_is_named(finished, tmp_path, capsys) -> None:
    for name in ("config.json", "summary.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    command = ["device", "--run", str(tmp_path), "--device", "default.qubit"]
    assert main(command) == 2
    assert "student: cannot be read as a student" in capsys.readouterr().err
    (tmp_path / "student").symlink_to(finished.path / "student")
    assert main(command) == 2
    message = "held_out.jsonl: cannot be read as a run's held-out answers"
    assert message in capsys.readouterr().err
    (tmp_path / "held_out.jsonl").touch()
    assert main(command) == 2
    assert message in capsys.readouterr().err
    (tmp_path / "student").unlink()
    shutil.copytree(finished.path / "student", tmp_path / "student")
    weights = tmp_path / "student" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main(command) == 2
    assert "student: cannot be read as a student" in capsys.readouterr().err


def test_held_out_answers_come_back_as_they_were_written(finished) -> None:
    pairs = read_held_out(finished.path)
    assert [answer.text for _, answer in pairs] == list(TEXTS)
    assert [answer.logprobs for _, answer in pairs] == [LOGPROBS] * len(TEXTS)
    assert pairs[0][0] == built_in_prompts().in_split("test", 0)[0]
