"""The settings that an environment is made of: a run's, and what Atropos itself was told."""

from __future__ import annotations

import pytest
from atroposlib.envs.base import BaseEnvConfig

from quantum_hybrid.atropos.environment import QuantumHybridEnvConfig
from quantum_hybrid.cli import main
from quantum_hybrid.config import RunConfig


def test_atropos_has_every_setting_of_a_run_with_the_run_s_default() -> None:
    config = QuantumHybridEnvConfig()
    assert config.model_dump().items() >= RunConfig().model_dump().items()
    assert config.model_dump().keys() >= BaseEnvConfig.model_fields.keys()
    ours, theirs = RunConfig.model_fields["seed"], QuantumHybridEnvConfig.model_fields["seed"]
    assert theirs.description == ours.description
    assert theirs.metadata == ours.metadata


def test_atropos_may_hand_over_text_and_change_what_is_its_own() -> None:
    config = QuantumHybridEnvConfig(seed="3", total_steps="2")  # type: ignore[arg-type]
    assert (config.seed, config.warmup_steps) == (3, 2)
    config.batch_size = 8


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("env.batch_size", "abc", "--env.batch_size 'abc': must be a whole number"),
        ("env.eval_handling", "MAYBE", "--env.eval_handling 'MAYBE': must be one of STOP_TRAIN"),
        ("env.max_reasoning_tokens", "1", "--env.max_reasoning_tokens 1: must be from 1024 to"),
        ("openai.health_check", "maybe", "--openai.health_check 'maybe': must be true or false"),
        ("env.rollout_server_url", "x", "--env.rollout_server_url 'x': must start with http://"),
        ("env.rollout_server_url", "http://x:99999", "--env.rollout_server_url 'http://x:99999': "),
        ("slurm", "maybe", "--slurm 'maybe': must be true or false"),
    ],
)
def test_a_value_that_atropos_does_not_allow_is_one_line_and_leaves_nothing(
    flag, value, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATROPOS_HERMES_API_KEY", raising=False)
    assert main(["serve", f"--{flag}", value]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
