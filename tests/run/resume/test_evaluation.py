"""`evaluate`: a run's student on its own held-out answers; the run's files stay unchanged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tiny_runs import contents, copied, figures, is_one_line, said


def evaluate(runs, run: Path, *flags: str) -> int:
    order = runs.order(run, cache=run.parent / "no cache")
    return runs.forks.run(replace(order, arguments=["evaluate", "--env.run_dir", str(run), *flags]))


def test_a_finished_run_gets_its_last_figures_again(runs, unbroken, teacher, tmp_path) -> None:
    run, results = copied(unbroken, tmp_path), tmp_path / "results"
    before = contents(run)
    assert evaluate(runs, run, "--env.data_dir_to_save_evals", str(results)) == 0, said(run)
    assert contents(run) == before
    assert teacher.asked == 0
    written = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    logged = figures(unbroken)[-1]
    assert {f"eval/{n}" for n in ("hybrid_loss", "quantum_ablation")} <= written["results"][
        "all"
    ].keys()
    for name, value in written["results"]["all"].items():
        assert logged[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert written["config_general"]["model_name"] == f"{run}, step 8"
    config = yaml.safe_load((results / "evaluate_config.yaml").read_text(encoding="utf-8"))
    assert config["env"]["n_qubits"] == 3


def test_a_run_that_was_killed_is_evaluated_where_its_last_checkpoint_is(
    runs, killed, tmp_path
) -> None:
    run = copied(killed, tmp_path)
    before = contents(run)
    assert evaluate(runs, run) == 0, said(run)
    assert contents(run) == before
    assert "checkpoint of step 6, 4 held-out answers" in said(run)


def test_a_run_without_a_checkpoint_is_refused_and_stays_as_it_is(runs, killed, tmp_path) -> None:
    run = copied(killed, tmp_path)
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    assert evaluate(runs, run) == 2
    assert is_one_line(run), said(run)
    assert "holds no checkpoint" in said(run)
    assert contents(run) == before


@pytest.mark.parametrize("folder", ["", "evals"])
def test_results_do_not_go_into_the_run(runs, killed, folder) -> None:
    before = contents(killed)
    assert evaluate(runs, killed, "--env.data_dir_to_save_evals", str(killed / folder)) == 2
    assert "lies in the run, which is only read" in said(killed)
    assert contents(killed) == before


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_results_that_cannot_be_written_are_refused_at_once(runs, killed, tmp_path, name) -> None:
    (tmp_path / "file").touch()
    assert evaluate(runs, killed, "--env.data_dir_to_save_evals", str(tmp_path / name)) == 2
    assert is_one_line(killed), said(killed)
    assert f"{tmp_path / name}: cannot be written: " in said(killed)
    assert "held-out answers" not in said(killed), "nothing was evaluated"
