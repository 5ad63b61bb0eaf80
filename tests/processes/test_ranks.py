"""Training on several real processes over gloo, compared with one process."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import ranks_worker
from processes import run_together
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.text.encoder import SpanLogprobs
from quantum_hybrid.text.records import Answer, AnswerLogprobs

TEXTS = ("Yes.", "No! Not before Monday, and not after noon either.", "Six minutes", "It depends.")
SPANS = (
    SpanLogprobs(range(0, 1), 0.0, (math.log(0.6), math.log(0.2))),
    SpanLogprobs(range(1, 3), -0.3, (math.log(0.5), math.log(0.3), math.log(0.1))),
)
SIZES = [2, 3]


@pytest.fixture(scope="module")
def groups(new_learner) -> list[Any]:
    """Three groups of four answers of very different lengths. One group has log-probabilities by
    token and by span."""
    from quantum_hybrid.text.prompts import built_in_prompts

    encoder = new_learner(train_backbone="none").encoder
    found = []
    for n, prompt in enumerate(built_in_prompts().in_split("train", 0)[:3]):
        answers = [Answer(prompt.id, i, TEXTS[(n + i) % 4], "stop", "m") for i in range(4)]
        group = encoder.examples(prompt, answers)
        group[1] = dataclasses.replace(group[1], logprobs=logprobs(group[1]), spans=SPANS)
        found.append(group)
    return found


def logprobs(example) -> AnswerLogprobs:
    ids = tuple(example.tokens[example.n_context :])
    rows = tuple((i, (i + 1) % 512, (i + 2) % 512) for i in ids)
    values = tuple((math.log(0.6), math.log(0.2), math.log(0.1)) for _ in ids)
    return AnswerLogprobs.from_lists(tuple("" for _ in ids), ids, rows, values)


@pytest.fixture(scope="module", params=SIZES)
def together(request, groups, small_llama, tmp_path_factory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    (folder / "groups").write_bytes(pickle.dumps(groups))
    worker = [ranks_worker.__file__, str(small_llama), str(folder / "groups")]
    run_together(request.param, *worker, str(folder / "results"))
    return pickle.loads((folder / "results").read_bytes())


@pytest.mark.parametrize("name", ranks_worker.CONFIGS)
def test_several_processes_train_as_one_does(together, groups, small_llama, name) -> None:
    alone, several = ranks_worker.trained(str(small_llama), name, groups), together[name]
    for got, expected in zip(several["steps"], alone["steps"], strict=True):
        assert got.metrics == pytest.approx(expected.metrics, rel=2e-4, abs=1e-5)
        assert got.answer_losses == pytest.approx(expected.answer_losses, rel=1e-4)
        assert got.answer_gains == pytest.approx(expected.answer_gains, abs=1e-5)
        assert got.n_tokens == expected.n_tokens
    assert several["evaluation"] == pytest.approx(alone["evaluation"], rel=2e-4, abs=1e-5)
    assert several["parameters"].keys() == alone["parameters"].keys()
    for parameter, expected in alone["parameters"].items():
        torch.testing.assert_close(several["parameters"][parameter], expected, rtol=1e-3, atol=1e-5)
    share = {"lora, top-k": "train/kl_rows", "lora, uld": "train/uld_rows"}.get(name)
    if share is not None:
        assert all(0 < step.metrics[share] < 1 for step in several["steps"])


@pytest.mark.parametrize("sizes", [[5, 9, 2, 7], [1, 1, 1], [3, 3, 3, 3, 3, 3, 3], [100, 1, 1, 1]])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_group_is_shared_out_evenly_and_whole(sizes, size) -> None:
    shares = [Ranks(rank, size).share(sizes) for rank in range(size)]
    assert sorted(i for share in shares for i in share) == list(range(len(sizes)))
    assert all(shares)
    loads = [sum(sizes[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_alone_nothing_changes() -> None:
    values = torch.tensor([0.1, 0.2])
    assert ALONE.total(values) is values
    assert ALONE.mean(values, 3) is values
    assert Ranks(n_local=3).threads(8) == 2
    assert Ranks(n_local=3).threads(2) == 1
