"""The goals and the table, of made-up results."""

from __future__ import annotations

import json

import pytest

from benchmarks import table
from benchmarks.goals import goals, share_of_limit, unrest
from benchmarks.job import Size
from benchmarks.measurement import Result
from benchmarks.roster import ENGINES, MATMUL, PEERS, PENNYLANE, engine
from quantum_hybrid import QuantumLayer

SIZE = Size(8, 3, 1024)
OURS = [0.001, 0.002]
NATIVE = Result(engine("native").name, SIZE, OURS, OURS, peak_bytes=2**20)
PENNY = Result(PENNYLANE.name, SIZE, [0.5, 1.0], OURS)
QULACS = Result(PEERS["qulacs"].name, SIZE, [0.149], [0.001], once=True)
BROKEN = Result(PEERS["pyqtorch"].name, SIZE, failure="does not install: no such release")
PRODUCT = Result(MATMUL.name, SIZE, [0.01, 0.02], OURS)
RESULTS = [NATIVE, PENNY, QULACS, BROKEN, PRODUCT]


def test_goals_are_met_missed_or_not_measured():
    found = {goal.text: goal for goal in goals(RESULTS)}
    pennylane = found["8,3,1024: PennyLane default.qubit / ours"]
    assert (pennylane.figure, pennylane.met) == (pytest.approx(500), True)
    best = found["8,3,1024: best peer / ours"]
    assert (best.figure, best.met) == (pytest.approx(149), False)
    assert found["16,5,32: best peer / ours"].met is None
    assert found["best peer at 16,3,32 / ours at 100,3,32"].met is None


def test_share_of_the_machine_s_limit():
    """4 * 2 * 8 * 256 + 10 * 256 multiply-adds a sample, at 1024**3 in ten of our times."""
    expected = 1024 * (4 * 2 * 8 * 256 + 10 * 256) / 1024**3 * 10
    assert share_of_limit(RESULTS, SIZE) == pytest.approx(expected)


def test_the_goal_across_sizes_compares_the_best_peer_with_the_wide_circuit(monkeypatch):
    narrow, wide = Size(16, 3, 32), Size(100, 3, 32)
    monkeypatch.setitem(ENGINES, wide, ("tensor_network",))
    results = [
        Result(PENNYLANE.name, narrow, seconds=[5.0]),
        Result(PEERS["qulacs"].name, narrow, seconds=[4.0]),
        Result(engine("tensor_network").name, wide, seconds=[0.1]),
    ]
    (goal,) = [goal for goal in goals(results) if goal.text.startswith("best peer at")]
    assert (goal.figure, goal.met) == (pytest.approx(40), True)


def test_unrest_is_that_of_the_worst_size():
    steady = Result(MATMUL.name, Size(8, 3, 1), seconds=[0.01, 0.011])
    assert unrest([*RESULTS, steady]) == pytest.approx(2)
    assert unrest([NATIVE]) == 1


def test_no_result_is_dropped_from_the_table():
    lines = table.lines(RESULTS)
    assert len(lines) == len(RESULTS)
    assert lines[1].split() == ["8,3,1024", *PENNY.program.split(), "750.000", "500.00", "-"]
    assert lines[2].endswith("(one run)")
    assert lines[3].endswith("does not install: no such release")
    rows = json.loads(json.dumps(table.rows(RESULTS)))
    assert rows[3]["failure"] == BROKEN.failure
    assert rows[3]["median_ms"] is None
    assert rows[2]["first_run_only"]
    assert table.goal_lines(goals(RESULTS))[0].endswith("not measured")


@pytest.mark.parametrize("size", [size for size, engines in ENGINES.items() if engines])
def test_goals_count_the_engine_that_auto_takes(size):
    layer = QuantumLayer(size.n_qubits, size.n_layers)
    assert layer.engine_for(size.batch) == ENGINES[size][0]
