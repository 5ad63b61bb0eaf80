"""The plan of a run: checks of its paths that write nothing."""

from __future__ import annotations

import pytest

from quantum_hybrid.run.plan import resolve


@pytest.mark.parametrize("named", ["groups.jsonl", "run/groups/first.jsonl"])
def test_groups_go_into_a_folder_that_exists_or_into_the_run(named, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = resolve({"run_dir": "run", "data_path_to_save_groups": named}, {})
    assert plan.config.data_path_to_save_groups == named
    assert list(tmp_path.iterdir()) == []
