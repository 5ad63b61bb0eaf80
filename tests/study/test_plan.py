"""The plan of a study: what is refused, and its hash."""

from __future__ import annotations

import pytest

from quantum_hybrid.errors import UsageError
from quantum_hybrid.study.plan import DEFAULT_PLAN, QUICK_PLAN, StudyPlan, read_plan

WRONG = {
    "version: 2": "version 2: must be one of 1",
    "seeds: 3": "must hold version: 1 and fields of a plan",
    "- version": "must hold version: 1 and fields of a plan",
    "version: 1\nseeds: 1": "seeds 1: must be from 2 to 1,000",
    "version: 1\nmargin: 0": "margin 0: must be above 0, to 10",
    "version: 1\nmargins: 0.1": "margins: no such field, did you mean margin?",
    "version: 1\narms: [ring, spin]": "arms 'spin': must be some of ring, nothing, identity",
    "version: 1\narms: [identity, affine]": "arms: must be ring, the subject, and at least one",
    "version: 1\narms: [ring]": "arms: must be ring, the subject, and at least one rival",
    "version: 1\narms: [ring, identity, ring]": "arms: 'ring' is listed twice",
    "version: 1\nregimes: []": "regimes: must be at least one of alone, beside, weak",
    "version: 1\nregimes: [strong]": "regimes.0 'strong': must be one of alone, beside, weak",
    "version: 1\nregimes: [weak]\ndrop_layers: none": "drop_layers: the regime weak needs",
    "version: 1\ndrop_layers: x": "drop_layers 'x': must be auto, none, or first-last",
    "version: 1\nn_qubits: 12": "n_qubits 12: must be at most 10 with the arm polynomial",
    "version: 1\ntext: a.txt\nprompts: b.txt": "prompts: a plan with a text has no prompts",
    "version: 1\nstopping: when it looks good": "stopping 'when it looks good': must be",
    "version: [1": "not a YAML file",
}


@pytest.mark.parametrize(("content", "message"), WRONG.items())
def test_a_wrong_plan_is_one_line_that_names_the_file_and_the_field(
    content, message, tmp_path
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_plan(str(file))
    text = str(caught.value)
    assert message in text
    assert str(file) in text
    assert "\n" not in text
    assert "`" not in text


def test_a_missing_plan_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.yaml.*cannot be read: No such file"):
        read_plan(str(tmp_path / "nowhere.yaml"))


def test_a_plan_with_some_fields_has_the_defaults_of_the_others(tmp_path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("version: 1\nseeds: 12\narms: [ring, identity]\n", encoding="utf-8")
    assert read_plan(str(file)) == StudyPlan(seeds=12, arms=("ring", "identity"))


def test_the_hash_is_that_of_the_content() -> None:
    assert StudyPlan().digest == DEFAULT_PLAN.digest == StudyPlan(seeds=10).digest
    others = [StudyPlan(seeds=11), StudyPlan(first_seed=1), StudyPlan(margin=0.004), QUICK_PLAN]
    assert len({plan.digest for plan in [DEFAULT_PLAN, *others]}) == 5


def test_the_default_plan_is_what_it_is_said_to_be() -> None:
    assert len(DEFAULT_PLAN.arms) == 14
    assert (DEFAULT_PLAN.seeds, DEFAULT_PLAN.regimes) == (10, ("alone", "beside", "planted"))
    assert DEFAULT_PLAN.held_out >= 800
    assert DEFAULT_PLAN.proves_something
    assert not QUICK_PLAN.proves_something
