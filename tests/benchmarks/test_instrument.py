"""What the instrument's benchmark keeps, and how it tells the effect of a shared training set."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from benchmarks.instrument import __main__ as instrument
from benchmarks.instrument.__main__ import RIVAL, pilot, run, tables
from benchmarks.instrument.cases import Case, Outcome, Size
from benchmarks.instrument.kept import Kept
from quantum_hybrid.study.arms import SUBJECT

SIZE = Size(n_seeds=10, n_held_out=800, parts=((4, 100),))
SETTINGS = {"seed": 0, "size": asdict(SIZE)}
AA, SMALL = Case("A/A", SUBJECT, 0.0, 0.5), Case("0.005", RIVAL, 0.005, 0.2)
SHARED = Case("0.005, shared", RIVAL, 0.005, 0.2, n_training_sets=2)


def said(case: Case, seed: int, difference: float) -> list[Outcome]:
    """Outcomes of a study and its part."""
    common = {
        "case": case.name,
        "seed": seed,
        "training_set": case.training_set(seed),
        "difference": difference,
        "standard_error": 0.001,
        "low": difference - 0.002,
        "high": difference + 0.002,
        "p_different": 0.01,
        "verdict": "better",
        "mean_squares": (1e-3, 1e-3, 1e-3),
    }
    layouts = ((10, 800), (4, 100))
    return [Outcome(**common, n_seeds=seeds, n_prompts=prompts) for seeds, prompts in layouts]


@pytest.fixture
def simulated(monkeypatch) -> list[tuple[str, int]]:
    """Studies that were simulated, with nothing behind them; their difference is their seed's."""
    done = []

    def simulate(_world, _teacher, case: Case, seed: int):
        done.append((case.name, seed))
        return case, seed

    monkeypatch.setattr(instrument, "Teacher", lambda world, kappa: None)
    monkeypatch.setattr(instrument, "simulate", simulate)
    monkeypatch.setattr(
        instrument, "outcomes", lambda losses, case, seed, size: said(case, seed, 0.001 * seed)
    )
    return done


class NoWorld:
    size = SIZE


def test_a_killed_run_goes_on(tmp_path, simulated) -> None:
    path = tmp_path / "kept.jsonl"
    run(NoWorld(), Kept(path, SETTINGS), AA, 2)  # pyright: ignore[reportArgumentType]
    kept = Kept(path, SETTINGS)
    assert kept.outcomes == [*said(AA, 0, 0.0), *said(AA, 1, 0.001)]
    kept.add_pilot(0.5, 0.02)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"outcomes": [{"case": "A')
    run(NoWorld(), Kept(path, SETTINGS), AA, 4)  # pyright: ignore[reportArgumentType]
    assert simulated == [("A/A", seed) for seed in range(4)]
    again = Kept(path, SETTINGS)
    assert pilot(NoWorld(), again, 0.5) == 0.02  # pyright: ignore[reportArgumentType]
    assert len(simulated) == 4


def test_a_file_of_other_settings_is_refused(tmp_path) -> None:
    Kept(tmp_path / "kept.jsonl", SETTINGS)
    with pytest.raises(SystemExit, match="of other settings"):
        Kept(tmp_path / "kept.jsonl", SETTINGS | {"seed": 1})


def test_tables_have_a_row_for_each_case_and_for_each_training_set(tmp_path) -> None:
    kept = Kept(tmp_path / "kept.jsonl", SETTINGS)
    for case in (AA, SMALL):
        for seed in range(4):
            kept.add(said(case, seed, 0.001 * seed))
    for seed, difference in enumerate([0.0, 0.010, 0.001, 0.011]):
        kept.add(said(SHARED, seed, difference))
    found = tables(kept, [AA, SMALL, SHARED], SIZE)
    assert [row["case"] for row in found["rows"]] == ["A/A", "0.005"]
    assert [(row["n_seeds"], row["n_prompts"]) for row in found["parts"]] == [(4, 100)] * 2
    # Two sets, then both together: judged by its own set's others, every interval covers.
    assert [row["n_studies"] for row in found["training_sets"]] == [2, 2, 4]
    assert [row["covered"] for row in found["training_sets"]] == [1, 1, 1]
    assert [row["mean_difference"] for row in found["training_sets"]] == [0.0005, 0.0105, 0.0055]
    json.dumps(found, allow_nan=False)
