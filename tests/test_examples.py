"""The examples run by their command lines and print their results."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from documents import ROOT

EXAMPLES = ROOT / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_these_are_all():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "compare_pathways.py",
        "digits_with_a_circuit.py",
    }


def test_a_classifier_with_a_circuit_inside_learns(monkeypatch, capsys):
    run(monkeypatch, "digits_with_a_circuit.py")
    lines = capsys.readouterr().out.splitlines()
    accuracies = {
        found[1].strip(): float(found[2])
        for line in lines
        if (found := re.match(r"(.+?) +\d+ weights +([\d.]+)% of unseen digits", line))
    }
    assert set(accuracies) == {"circuit of 7 qubits", "tanh layer", "nothing"}
    # By guessing one of ten digits it would be 10.
    assert min(accuracies.values()) > 60
    assert "says nothing about circuits in general" in lines[-1]


@pytest.fixture
def finished(make_student, small_llama, tmp_path) -> Path:
    """The files of a finished run that the example reads."""
    make_student(n_qubits=3, n_layers=2).save_pretrained(tmp_path / "run/student")
    AutoTokenizer.from_pretrained(small_llama).save_pretrained(tmp_path / "run/student")
    return tmp_path / "run"


def test_a_student_s_pathways_stand_side_by_side(monkeypatch, capsys, finished):
    run(monkeypatch, "compare_pathways.py", str(finished), "Why is the sky blue?")
    first, _, header, *rows = capsys.readouterr().out.splitlines()
    # The student of the tests has an alpha of sigmoid(0.4).
    assert first == "alpha 0.599: the quantum pathway has a weight of 0.401"
    assert header.split() == ["next", "token", "hybrid", "classical", "quantum"]
    probabilities = [[float(number) for number in row.split()[-3:]] for row in rows]
    assert len(probabilities) == 8
    hybrid = [row[0] for row in probabilities]
    assert hybrid == sorted(hybrid, reverse=True)
    assert all(0 <= number <= 1 for row in probabilities for number in row)


def test_an_example_says_what_it_wants(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "compare_pathways.py")
    assert end.value.code == 2
    assert "required: run, question" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no-such-run", "unfinished"])
def test_a_run_without_a_student_is_one_line(monkeypatch, capsys, tmp_path, name):
    (tmp_path / "unfinished/student").mkdir(parents=True)
    directory = tmp_path / name
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "compare_pathways.py", str(directory), "Why is the sky blue?")
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {directory / 'student'} holds no student; wanted: a finished run's directory\n"
    )
