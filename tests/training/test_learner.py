"""The learner: reproducible, trains the right parameters, and learns."""

from __future__ import annotations

import pytest
import torch

from quantum_hybrid.backbone import load_base_model
from quantum_hybrid.errors import UsageError
from quantum_hybrid.student import HybridForCausalLM
from quantum_hybrid.training import trainable_parts

HOW = ["none", "lora", "full"]


def parameters(learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def trajectory(learner, groups, steps: int = 3) -> list[dict[str, float]]:
    return [learner.train_on(groups[step % len(groups)], step).metrics for step in range(steps)]


@pytest.mark.parametrize("how", HOW)
def test_the_same_seed_gives_the_same_trajectory_bit_for_bit(new_learner, groups, how) -> None:
    torch.manual_seed(1)
    one = new_learner(train_backbone=how, seed=3)
    torch.manual_seed(2)
    two = new_learner(train_backbone=how, seed=3)
    assert trajectory(one, groups) == trajectory(two, groups)
    ours, theirs = parameters(one), parameters(two)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert one.evaluate(groups[3]) == two.evaluate(groups[3])


def test_another_seed_gives_another_trajectory(new_learner, groups) -> None:
    one, two = (trajectory(new_learner(seed=seed), groups) for seed in (3, 4))
    for a, b in zip(one, two, strict=True):
        assert a["train/quantum_loss"] != b["train/quantum_loss"]


@pytest.mark.parametrize("how", HOW)
def test_what_is_trained_moves_and_nothing_else(new_learner, groups, how) -> None:
    learner = new_learner(train_backbone=how)
    before = parameters(learner)
    trained = {name for part in trainable_parts(learner.model).values() for name in part}
    backbone = {name for name in trained if name.startswith("backbone.")}
    if how == "full":
        assert trained == set(before)
    else:
        assert all("lora_" in name for name in backbone)
        assert bool(backbone) == (how == "lora")
        head = {name for name in before if name.startswith("head.")}
        frozen = {"head.classical.decoder.weight"}
        assert trained - backbone == head - frozen
    trajectory(learner, groups, 2)
    moved = {name for name, p in parameters(learner).items() if not torch.equal(p, before[name])}
    assert moved == trained


@pytest.mark.parametrize("how", HOW)
def test_the_loss_falls_on_one_repeated_group(new_learner, groups, how) -> None:
    learner = new_learner(train_backbone=how, warmup_steps=2, learning_rate=5e-3)
    history = trajectory(learner, groups[:1], 15)
    for name in ("hybrid", "classical", "quantum"):
        assert history[-1][f"train/{name}_loss"] < history[0][f"train/{name}_loss"] - 0.05
    halves = [sum(h["train/hybrid_loss"] for h in history[i : i + 5]) for i in (0, 5, 10)]
    assert halves[0] > halves[1] > halves[2]


def test_a_new_student_starts_as_its_base_model(new_learner, groups, small_llama) -> None:
    learner = new_learner(train_backbone="lora")
    base = load_base_model(str(small_llama), str(small_llama))
    tokens = torch.tensor([groups[0][0].tokens])
    with torch.no_grad():
        expected = base.decoder(base.norm(base.body(input_ids=tokens).last_hidden_state))
        logits = learner.model.head(learner.model.hidden_states(tokens)).classical
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert learner.vocabulary == 512


def test_layers_are_dropped_from_the_student(new_learner) -> None:
    learner = new_learner(drop_layers="1-2", train_backbone="none")
    assert len(learner.model.backbone.layers) == 2
    assert learner.model.config.num_hidden_layers == 2
    with pytest.raises(UsageError, match=r"`drop_layers` 1-4: the backbone has layers 0 to 3"):
        new_learner(drop_layers="1-4")


@pytest.mark.parametrize("how", HOW)
def test_a_saved_student_predicts_what_the_trained_one_did(
    new_learner, groups, how, tmp_path
) -> None:
    learner = new_learner(train_backbone=how, learning_rate=5e-3)
    trajectory(learner, groups)
    before = learner.evaluate(groups[0])
    learner.save_student(tmp_path)
    loaded = HybridForCausalLM.from_pretrained(tmp_path)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    learner.model = loaded
    assert learner.evaluate(groups[0]) == pytest.approx(before, rel=1e-4, abs=1e-5)
    assert (tmp_path / "tokenizer.json").is_file()


def test_dropout_is_off(new_learner, groups, family_folder) -> None:
    """GPT-2 has dropout of 0.1 in every layer."""
    learner = new_learner(base_model_name=str(family_folder("gpt2")))
    dropouts = [m for m in learner.model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    assert dropouts
    tokens = torch.tensor([groups[0][0].tokens])
    with torch.no_grad():
        first, second = learner.model(tokens).logits, learner.model(tokens).logits
    assert torch.equal(first, second)


def test_a_learner_with_the_embedded_vocabulary_learns(new_learner, tiny_llama, groups) -> None:
    """49,152 tokens and a chat template."""
    learner = new_learner(base_model_name=str(tiny_llama))
    assert learner.vocabulary == 49_152
    assert learner.encoder.tokenizer.chat_template
    history = trajectory(learner, groups[:1], 4)
    assert history[-1]["train/hybrid_loss"] < history[0]["train/hybrid_loss"]
