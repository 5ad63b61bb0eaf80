"""A small study of a text, on a tiny model: shared by the tests of its stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from one_process import conducted
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.text import built_in_prompts
from tiny import save_small_llama


@pytest.fixture(scope="session")
def base_model(tmp_path_factory) -> Path:
    return save_small_llama(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """114 documents of about 60 of the tiny model's tokens, three prompts in each."""
    prompts = [prompt.text for prompt in built_in_prompts().prompts]
    documents = [" ".join(prompts[i : i + 3]) for i in range(0, 342, 3)]
    file = tmp_path_factory.mktemp("text") / "documents.txt"
    file.write_text("\n\n".join(documents), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def plan(base_model, text) -> StudyPlan:
    return StudyPlan(
        text=str(text),
        base_model_name=str(base_model),
        drop_layers="1-1",
        longest_unit=48,
        training=50,
        validation=12,
        held_out=24,
        healing_steps=3,
        n_qubits=3,
        n_layers=2,
        arms=("ring", "nothing", "identity", "shuffled"),
        regimes=("alone", "beside"),
        seeds=2,
        tuning_trials=5,
    )


@pytest.fixture(scope="session")
def small_plan(plan) -> StudyPlan:
    """Two arms beside the classical pathway."""
    return plan.model_copy(update={"arms": ("ring", "identity"), "regimes": ("beside",)})


@pytest.fixture(scope="session")
def plan_file(small_plan, tmp_path_factory) -> Path:
    """Of the small plan."""
    file = tmp_path_factory.mktemp("plan") / "plan.yaml"
    file.write_text(yaml.safe_dump(small_plan.model_dump(mode="json")), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def small_study(small_plan, tmp_path_factory) -> Path:
    """A finished study of the small plan."""
    path = tmp_path_factory.mktemp("small") / "study"
    conducted(path, small_plan)
    return path
