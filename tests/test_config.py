"""Settings: allowed values, and the message for a value that is not allowed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from quantum_hybrid.config import RunConfig, ServerConfig, config_hash
from quantum_hybrid.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_qubits": 0}, "`n_qubits` 0: must be from 1 to 20"),
        ({"n_qubits": 1000}, "`n_qubits` 1000: must be from 1 to 20"),
        ({"n_layers": -1}, "`n_layers` -1: must be from 1 to 100"),
        ({"group_size": 0}, "`group_size` 0: must be from 1 to 128"),
        ({"quantum_weight": -0.5}, "`quantum_weight` -0.5: must be at least 0"),
        ({"perplexity_weight": float("nan")}, "`perplexity_weight` nan: must be at least 0"),
        ({"learning_rate": -1.0}, "`learning_rate` -1.0: must be from 0 to 10"),
        ({"max_grad_norm": 0.0}, "`max_grad_norm` 0.0: must be greater than 0"),
        ({"warmup_steps": 60}, "`warmup_steps` 60: must be at most `total_steps`"),
        ({"engine": "dense", "reupload": True}, "`engine` dense: is for at most 10 qubits"),
        ({"engine": "dense", "n_qubits": 11}, "`engine` dense: is for at most 10 qubits"),
        ({"distill_top_logprobs": -1}, "`distill_top_logprobs` -1: must be from 0 to 1,000"),
        ({"distill_weight": -0.1}, "`distill_weight` -0.1: must be at least 0"),
        ({"distill_temperature": 0.0}, "`distill_temperature` 0.0: must be above 0, to 100"),
        (
            {"distill_top_logprobs": 8, "teacher_top_logprobs": 0},
            "`teacher_top_logprobs` 0: must be at least 1 with `distill_top_logprobs` 8",
        ),
        (
            {"distill_loss": "uld"},
            "`distill_loss` uld: needs `distill_top_logprobs` of at least 1",
        ),
        ({"run_dir": ""}, "`run_dir` '': must not be empty"),
        ({"seed": "4"}, "`seed` '4': must be a whole number"),
        ({"seed": True}, "`seed` True: must be a whole number"),
        ({"use_wandb": 1}, "`use_wandb` 1: must be true or false"),
        ({"temperature": "warm"}, "`temperature` 'warm': must be a number"),
        ({"temperature": float("inf")}, "`temperature` inf: must be from 0 to 10"),
        ({"wandb_name": False}, "`wandb_name` False: must be text"),
        ({"mixing": "average"}, "`mixing` 'average': must be one of logits, probability"),
        ({"n_qubit": 4}, "`n_qubit`: no such field, did you mean `n_qubits`?"),
        ({"total_steps": 1_000_001}, "`total_steps` 1000001: must be from 1 to 1,000,000"),
        ({"drop_layers": "9-3"}, "`drop_layers` '9-3': must be auto, none, or first-last"),
        ({"drop_layers": "x"}, "`drop_layers` 'x': must be auto, none, or first-last"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values, message) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig(**values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_url": "ftp://x"}, "`base_url` 'ftp://x': must start with http://"),
        ({"base_url": "http://me:secret@x"}, "`base_url`: must hold no user name"),
        ({"base_url": "http://x/v1?key=secret"}, "`base_url`: must be an address without"),
        ({"base_url": "http://x/v1,"}, "`base_url` '': must start with http://"),
        ({"base_url": "http://x/v1,http://x/v1/"}, "`base_url` 'http://x/v1,http://x/v1/'"),
        (
            {"base_url": "http://x/v1", "model_name": "a,b"},
            "`model_name` 'a,b': has 2 values for 1 server in `base_url`",
        ),
        ({"input_price": "dear", "output_price": "1"}, "`input_price` 'dear': must be a"),
        ({"input_price": "nan", "output_price": "1"}, "`input_price` 'nan': must be a"),
        ({"input_price": "1"}, "`input_price` and `output_price`: give both"),
        ({"max_cost": 1.0}, "`max_cost` 1.0: needs `input_price` and"),
        ({"max_cost": -1.0}, "`max_cost` -1.0: must be at least 0"),
        ({"max_requests": -1}, "`max_requests` -1: must be at least 0"),
        ({"timeout": 0.0}, "`timeout` 0.0: must be greater than 0"),
        ({"num_max_requests_at_once": 0}, "`num_max_requests_at_once` 0: must be from 1"),
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


def test_a_run_shorter_than_the_default_warm_up_warms_up_to_its_end() -> None:
    assert RunConfig().warmup_steps == 5
    assert RunConfig(total_steps=3).warmup_steps == 3
    assert RunConfig(total_steps=3, warmup_steps=0).warmup_steps == 0
    with pytest.raises(UsageError, match="`warmup_steps` 5: must be at most `total_steps`"):
        RunConfig(total_steps=3, warmup_steps=5)


def test_what_was_set_is_known_though_it_is_the_default() -> None:
    config = RunConfig(seed=0, total_steps=3)
    assert config.model_fields_set == {"seed", "total_steps"}
    assert pickle.loads(pickle.dumps(config)).model_fields_set == config.model_fields_set


def test_a_number_may_stand_for_text() -> None:
    given: dict[str, Any] = {"model_name": 7, "input_price": 0.5, "output_price": "1"}
    config = ServerConfig(**given)
    assert (config.model_name, config.input_price) == ("7", "0.5")


def test_a_copy_is_checked_and_the_original_stays() -> None:
    config = RunConfig(total_steps=3)
    assert config.model_copy(update={"total_steps": 50}).warmup_steps == 5
    with pytest.raises(UsageError, match="`n_qubits` 0: must be from 1 to 20"):
        config.model_copy(update={"n_qubits": 0})
    with pytest.raises(ValidationError, match="frozen"):
        config.total_steps = 4


def test_the_hash_depends_on_every_value() -> None:
    assert config_hash(RunConfig()) == config_hash(RunConfig())
    assert config_hash(RunConfig()) != config_hash(RunConfig(seed=1))
    # As when the settings were a dataclass: runs of then and now can be told to be alike.
    assert config_hash(RunConfig()) == "dcb33b2600db"
