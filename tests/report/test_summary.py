"""The summary of a run."""

from __future__ import annotations

import pytest

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.report.summary import summarise, summary_lines, teacher_lines


def evaluation(step: int, hybrid: float, classical: float = 3.0, **more: float) -> dict:
    row = {
        "step": step,
        "eval/hybrid_loss": hybrid,
        "eval/classical_loss": classical,
        "eval/quantum_loss": 7.25,
        "eval/perplexity_hybrid": 20.0,
        "eval/perplexity_classical": 20.5,
        "eval/perplexity_quantum": 1400.0,
        "eval/quantum_ablation": 0.0123,
        "eval/quantum_ablation_se": 0.0045,
        "eval/hybrid_minus_classical": hybrid - classical,
        "eval/tokens": 640.0,
        "model/alpha": 0.75,
        "model/quantum_contribution": 0.125,
    }
    return row | {name.replace("__", "/"): value for name, value in more.items()}


def training(step: int) -> dict:
    return {"step": step, "train/hybrid_loss": 9.0}


ROWS = [
    evaluation(0, 5.5, eval__kl_to_teacher=2.5),
    *(training(step) for step in range(1, 11)),
    evaluation(10, 4.0, eval__kl_to_teacher=1.5),
    *(training(step) for step in range(11, 21)),
    evaluation(20, 2.875, eval__kl_to_teacher=0.5),
]


def test_first_and_last_evaluation_stand_side_by_side() -> None:
    summary = summarise(ROWS)
    assert (summary["first_step"], summary["last_step"]) == (0, 20)
    assert summary["held_out_tokens"] == 640.0
    assert summary["first"]["eval/hybrid_loss"] == 5.5
    assert summary["last"]["eval/hybrid_loss"] == 2.875
    assert summary["last"]["eval/kl_to_teacher"] == 0.5


@pytest.mark.parametrize(("alpha", "shown"), [(0.99995, True), (0.998, False), (0.0, False)])
def test_it_says_when_the_mixture_left_the_quantum_pathway_out(alpha, shown) -> None:
    lines = summary_lines(summarise([*ROWS, evaluation(30, 2.75, model__alpha=alpha)]))
    sentence = "Alpha gives the quantum pathway a weight of 5e-05: the hybrid hardly uses it."
    assert (sentence in lines) == shown


def test_the_table_names_each_figure_its_values_and_its_unit() -> None:
    lines = summary_lines(summarise(ROWS))
    assert lines[0].split() == ["held", "out", "step", "0", "step", "20"]
    table = lines[1 : lines.index("")]
    assert len(table) == 12
    assert table[0].split() == ["hybrid", "loss", "5.5000", "2.8750", "nats", "per", "token"]
    kl = next(line for line in table if line.startswith("KL to the teacher"))
    assert kl.split()[4:6] == ["2.5000", "0.5000"]
    assert all(line == line.rstrip() for line in lines)
    columns = {line.index(f"{value:.4f}") + 6 for line, value in zip(table, [5.5], strict=False)}
    assert columns == {40}


def test_a_teacher_without_logprobs_has_no_row() -> None:
    rows = [{n: v for n, v in row.items() if n != "eval/kl_to_teacher"} for row in ROWS]
    summary = summarise(rows)
    assert "eval/kl_to_teacher" not in summary["first"] | summary["last"]
    lines = summary_lines(summary)
    assert not any("KL" in line for line in lines)
    assert lines.index("") == 12


def test_one_evaluation_is_first_and_last() -> None:
    summary = summarise(ROWS[:3])
    assert summary["first_step"] == summary["last_step"] == 0
    assert summary["first"] == summary["last"]


def test_a_run_without_an_evaluation_has_no_summary() -> None:
    with pytest.raises(CheckpointError, match="holds no held-out evaluation"):
        summarise([training(1)])


@pytest.mark.parametrize(("hybrid", "difference"), [(2.75, "-0.2500"), (3.5, "+0.5000")])
def test_the_verdict_compares_the_hybrid_with_its_classical_pathway(hybrid, difference) -> None:
    text = " ".join(summary_lines(summarise([evaluation(0, 9.0), evaluation(5, hybrid)])))
    assert f"The hybrid's loss minus its classical pathway's is {difference}." in text
    assert "The quantum pathway was worth +0.0123 +- 0.0045 nats per token" in text
    assert "says nothing about quantum advantage." in text


@pytest.mark.parametrize("n_answers", [1, 2])
def test_errors_are_explained_where_there_are_any(n_answers) -> None:
    row = evaluation(5, 2.0)
    if n_answers == 1:
        del row["eval/quantum_ablation_se"]
    text = " ".join(summary_lines(summarise([row])))
    assert ("One held-out answer gives no standard error." in text) == (n_answers == 1)
    assert ("Errors are one standard error over held-out answers." in text) == (n_answers == 2)
    assert ("+-" in text) == (n_answers == 2)


@pytest.mark.parametrize("ablation", [-0.02, 0.0, 0.02])
def test_the_ablation_keeps_its_sign(ablation) -> None:
    row = evaluation(5, 2.0) | {"eval/quantum_ablation": ablation}
    assert f"was worth {ablation:+.4f} +- 0.0045 nats" in " ".join(summary_lines(summarise([row])))


def test_the_teacher_is_accounted_for() -> None:
    fields = {
        "requests": 9,
        "retries": 2,
        "answers": 20,
        "answers_from_cache": 4,
        "cut_at_length": 3,
        "prompt_tokens": 100,
        "completion_tokens": 900,
        "cost": 0.0125,
        "unknown_cost": 0.002,
        "faults": {"empty": 1, "rate_limited": 2},
        "answers_by_teacher": {"big http://a/v1": 15, "small http://b/v1": 5},
    }
    assert teacher_lines(fields) == [
        "teacher   20 answers in 9 requests (2 of them retries), 4 from the cache",
        "          3 answers cut at the maximum length; tokens: 100 read, 900 written",
        "          cost 0.0125, at most 0.002 more for replies that were not read",
        "          faults: empty 1, rate_limited 2",
        "          15 by big http://a/v1",
        "          5 by small http://b/v1",
    ]
    quiet = fields | {"cost": 0.0, "unknown_cost": 0.0, "faults": {}, "answers_by_teacher": {}}
    assert len(teacher_lines(quiet)) == 2
