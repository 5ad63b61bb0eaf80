"""Loss against qubits and layers, on the ground of a finished study."""

from __future__ import annotations

import json
import shutil

import pytest

from quantum_hybrid.cli import main
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.plan import DEFAULT_PLAN


@pytest.mark.slow
def test_shapes_are_compared_on_the_ground_of_a_finished_study(
    small_study, tmp_path, capfd
) -> None:
    study = tmp_path / "study"
    shutil.copytree(small_study, study)
    flags = ["scaling", "--study-dir", str(study), "--qubits", "2,24", "--layers", "1"]
    assert main(flags) == 0
    content = json.loads((study / "scaling.json").read_text(encoding="utf-8"))
    shapes = {(row["n_qubits"], row["n_layers"]) for row in content["rows"]}
    assert shapes == {(2, 3), (24, 3), (8, 1)}
    assert all(row["loss"] > 0 and row["standard_error"] >= 0 for row in content["rows"])
    assert "identity" in capfd.readouterr().out
    rows = (study / "scaling.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(content["rows"])
    # Another shape joins those that are there.
    assert main(["scaling", "--study-dir", str(study), "--qubits", "3", "--layers", "1"]) == 0
    content = json.loads((study / "scaling.json").read_text(encoding="utf-8"))
    assert {row["n_qubits"] for row in content["rows"]} == {2, 3, 8, 24}
    # Again: nothing is computed, and it is no further look.
    looks = (study / "looks.jsonl").read_text(encoding="utf-8")
    assert main(flags) == 0
    assert (study / "looks.jsonl").read_text(encoding="utf-8") == looks


def test_scaling_needs_a_finished_study(plan, tmp_path, capfd) -> None:
    assert main(["scaling", "--study-dir", str(tmp_path)]) == 2
    assert "must be the folder of a study" in capfd.readouterr().err
    with opened(tmp_path / "study", plan, DEFAULT_PLAN):
        pass
    assert main(["scaling", "--study-dir", str(tmp_path / "study")]) == 2
    assert "is not finished" in capfd.readouterr().err
