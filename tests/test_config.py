"""Flags: what is allowed, and what a user reads when a value is not."""

from __future__ import annotations

import pytest

from quantum_hybrid.config import RunConfig, ServerConfig, config_hash
from quantum_hybrid.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_qubits": 0}, "--env.n_qubits 0: must be from 1 to 20"),
        ({"n_qubits": 1000}, "--env.n_qubits 1000: must be from 1 to 20"),
        ({"n_layers": -1}, "--env.n_layers -1: must be from 1 to 100"),
        ({"group_size": 0}, "--env.group_size 0: must be from 1 to 128"),
        ({"quantum_weight": -0.5}, "--env.quantum_weight -0.5: must be at least 0"),
        ({"perplexity_weight": float("nan")}, "--env.perplexity_weight nan: must be at least 0"),
        ({"learning_rate": -1.0}, "--env.learning_rate -1.0: must be from 0 to 10"),
        ({"max_grad_norm": 0.0}, "--env.max_grad_norm 0.0: must be greater than 0"),
        ({"warmup_steps": 60}, "--env.warmup_steps 60: must be at most --env.total_steps"),
        ({"engine": "dense", "reupload": True}, "--env.engine dense: is for at most 10 qubits"),
        ({"engine": "dense", "n_qubits": 11}, "--env.engine dense: is for at most 10 qubits"),
        ({"distill_top_logprobs": -1}, "--env.distill_top_logprobs -1: must be from 0 to 1,000"),
        ({"distill_weight": -0.1}, "--env.distill_weight -0.1: must be at least 0"),
        ({"distill_temperature": 0.0}, "--env.distill_temperature 0.0: must be above 0, to 100"),
        (
            {"distill_top_logprobs": 8, "teacher_top_logprobs": 0},
            "--env.teacher_top_logprobs 0: must be at least 1 with --env.distill_top_logprobs 8",
        ),
        (
            {"distill_loss": "uld"},
            "--env.distill_loss uld: needs --env.distill_top_logprobs of at least 1",
        ),
        ({"run_dir": ""}, "--env.run_dir '': must not be empty"),
        ({"drop_layers": "9-3"}, "--env.drop_layers '9-3': must be auto, none, or first-last"),
        ({"drop_layers": "x"}, "--env.drop_layers 'x': must be auto, none, or first-last"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values, message) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig(**values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_url": "ftp://x"}, "--openai.base_url 'ftp://x': must start with http://"),
        ({"base_url": "http://me:secret@x"}, "--openai.base_url: must hold no user name"),
        ({"base_url": "http://x/v1?key=secret"}, "--openai.base_url: must be an address without"),
        ({"base_url": "http://x/v1,"}, "--openai.base_url '': must start with http://"),
        ({"base_url": "http://x/v1,http://x/v1/"}, "--openai.base_url 'http://x/v1,http://x/v1/'"),
        (
            {"base_url": "http://x/v1", "model_name": "a,b"},
            "--openai.model_name 'a,b': has 2 values for 1 server in --openai.base_url",
        ),
        ({"input_price": "dear", "output_price": "1"}, "--openai.input_price 'dear': must be a"),
        ({"input_price": "nan", "output_price": "1"}, "--openai.input_price 'nan': must be a"),
        ({"input_price": "1"}, "--openai.input_price and --openai.output_price: give both"),
        ({"max_cost": 1.0}, "--openai.max_cost 1.0: needs --openai.input_price and"),
        ({"max_cost": -1.0}, "--openai.max_cost -1.0: must be at least 0"),
        ({"max_requests": -1}, "--openai.max_requests -1: must be at least 0"),
        ({"timeout": 0.0}, "--openai.timeout 0.0: must be greater than 0"),
        ({"num_max_requests_at_once": 0}, "--openai.num_max_requests_at_once 0: must be from 1"),
    ],
)
def test_a_server_value_that_is_not_allowed_is_named(values, message) -> None:
    with pytest.raises(UsageError) as caught:
        ServerConfig(**values)
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_only_the_embedded_model_is_pruned_by_default() -> None:
    assert RunConfig().dropped_layers() == range(11, 21)
    assert RunConfig(base_model_name="gpt2").dropped_layers() == range(0)
    assert RunConfig(drop_layers="none").dropped_layers() == range(0)
    assert RunConfig(base_model_name="gpt2", drop_layers="4-6").dropped_layers() == range(4, 7)


def test_the_hash_depends_on_every_value() -> None:
    assert config_hash(RunConfig()) == config_hash(RunConfig())
    assert config_hash(RunConfig()) != config_hash(RunConfig(seed=1))
