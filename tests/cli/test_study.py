"""The verb `study`: its flags, and what it refuses."""

from __future__ import annotations

import pytest

from quantum_hybrid.cli import main


def test_a_merge_before_the_shards_are_done_is_refused(tmp_path, capfd) -> None:
    study = tmp_path / "study"
    assert main(["study", "--study-dir", str(study), "--merge"]) == 2
    assert "holds no study whose shards could be merged" in capfd.readouterr().err
    assert not study.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "invalid value '3/2': must be K/N, K from 1 to N"),
        (["--shard", "1/2"], "--shard and --merge need --study-dir"),
        (["--plan", "a", "--quick"], "not allowed with argument"),
        (["--study-dir", ""], "--study-dir '': must name a folder"),
        (["--plan", "nowhere.yaml"], "plan 'nowhere.yaml': cannot be read"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message, capfd, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["study", *arguments])
    except SystemExit as ended:
        status = ended.code
    errors = capfd.readouterr().err
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
