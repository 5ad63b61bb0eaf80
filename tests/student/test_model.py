"""The student as a Hugging Face model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig

from quantum_hybrid.backbone import drop_layers, load_base_model
from quantum_hybrid.student import HybridConfig, HybridForCausalLM

FAMILIES = ["gpt2", "bloom", "gpt_neox", "phi", "qwen2", "mistral", "opt"]
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


def logits(student, **inputs) -> torch.Tensor:
    with torch.no_grad():
        return student(TOKENS, **inputs).logits


def family_student(folder) -> HybridForCausalLM:
    """A student around a pruned base model of some family."""
    base = load_base_model(str(folder), str(folder))
    drop_layers(base.body, range(1, 2))
    student = HybridForCausalLM.from_base(base, n_qubits=3, n_layers=1)
    torch.nn.init.normal_(student.head.quantum.up.weight)
    return student


@pytest.mark.parametrize("mixing", ["logits", "probability"])
def test_a_saved_student_is_loaded_as_it_was(make_student, mixing, tmp_path) -> None:
    student = make_student(
        mixing=mixing,
        n_qubits=5,
        n_layers=2,
        entangler="chain",
        reupload=True,
        engine="statevector",
    )
    student.save_pretrained(tmp_path)
    torch.manual_seed(9)
    loaded = HybridForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(student))
    assert repr(loaded.head) == repr(student.head)
    assert loaded.head.mixing == mixing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_any_family_is_loaded_as_it_was(family_folder, family, tmp_path) -> None:
    student = family_student(family_folder(family))
    student.save_pretrained(tmp_path)
    loaded = HybridForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(student))


def test_auto_config_knows_a_student(make_student, tmp_path) -> None:
    make_student(n_qubits=5).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, HybridConfig)
    assert (config.n_qubits, config.n_layers, config.entangler) == (5, 3, "ring")
    assert config.vocab_size == 512


def generated(student, **how) -> list[list[int]]:
    settings = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return student.generate(TOKENS, **(settings | how)).tolist()


def test_generate_is_the_same_with_and_without_a_cache(make_student) -> None:
    student = make_student()
    cached = generated(student, use_cache=True)
    assert cached == generated(student, use_cache=False)
    text = TOKENS
    for _ in range(10):
        with torch.no_grad():
            text = torch.cat([text, student(text).logits[:, -1:].argmax(-1)], 1)
    assert cached == text.tolist()
    assert len({token for row in cached for token in row[8:]}) > 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_any_family_generates(family_folder, family) -> None:
    student = family_student(family_folder(family))
    assert generated(student, use_cache=True) == generated(student, use_cache=False)


def test_generate_takes_padding_on_the_left(make_student) -> None:
    student = make_student()
    alone = student.generate(
        TOKENS[:1, 3:], max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, 5:]
    mask = torch.ones_like(TOKENS)
    mask[0, :3] = 0
    padded = generated(student, max_new_tokens=6, attention_mask=mask)
    assert padded[0][8:] == alone.tolist()


def test_logits_to_keep_keeps_the_last(make_student) -> None:
    student = make_student()
    whole = logits(student)
    assert whole.shape == (2, 8, 512)
    torch.testing.assert_close(logits(student, logits_to_keep=3), whole[:, -3:])
    chosen = torch.tensor([0, 5])
    torch.testing.assert_close(logits(student, logits_to_keep=chosen), whole[:, chosen])


def test_the_logits_are_the_hybrids(make_student) -> None:
    student = make_student()
    with torch.no_grad():
        expected = student.head(student.hidden_states(TOKENS)).hybrid
    assert torch.equal(logits(student), expected)


LABELS = TOKENS.clone()
LABELS[0, :5] = LABELS[1, 7] = -100
"""Without a question of five tokens and without the end of the other text: 9 are predicted."""


def loss_by_hand(student) -> torch.Tensor:
    """Summed over the labels: those that are not -100 and have a token before them."""
    text = student(TOKENS).logits.log_softmax(-1)
    counted = [
        (row, t) for row, first, last in [(0, 5, 7), (1, 1, 6)] for t in range(first, last + 1)
    ]
    return -torch.stack([text[row, t - 1, TOKENS[row, t]] for row, t in counted]).sum()


@pytest.mark.parametrize("mixing", ["logits", "probability"])
def test_the_loss_is_the_hybrid_s_cross_entropy_of_the_next_label(make_student, mixing) -> None:
    student = make_student(mixing=mixing)
    whole = student(TOKENS).logits
    expected = F.cross_entropy(whole[:, :-1].reshape(14, 512), TOKENS[:, 1:].reshape(14))
    torch.testing.assert_close(student(TOKENS, labels=TOKENS).loss, expected)
    output = student(TOKENS, labels=LABELS)
    torch.testing.assert_close(output.loss, loss_by_hand(student) / 9)
    assert torch.equal(output.logits, whole)
    assert student(TOKENS).loss is None


@pytest.mark.parametrize("count", [36, torch.tensor(36)])
def test_the_loss_is_a_share_of_a_batch_of_several_steps(make_student, count) -> None:
    student = make_student()
    loss = student(TOKENS, labels=LABELS, num_items_in_batch=count).loss
    torch.testing.assert_close(loss, loss_by_hand(student) / 36)


def test_a_loaded_student_has_the_same_loss(make_student, tmp_path) -> None:
    student = make_student()
    student.save_pretrained(tmp_path)
    loaded = HybridForCausalLM.from_pretrained(tmp_path)
    assert loaded(TOKENS, labels=LABELS).loss.equal(student(TOKENS, labels=LABELS).loss)


def test_the_gradient_of_the_loss_reaches_every_weight(make_student) -> None:
    student = make_student()
    student(TOKENS, labels=LABELS).loss.backward()
    without = {name for name, weight in student.named_parameters() if weight.grad is None}
    assert without == set()
    for circuit in (student.head.quantum.circuit1, student.head.quantum.circuit2):
        assert circuit.weights.grad.abs().min() > 0


@pytest.mark.parametrize("family", ["gpt2", "phi", "qwen2"])
def test_from_base_copies_the_weights(family_folder, family) -> None:
    """Phi's decoder has a bias. The student copies it, so the base model does not change."""
    folder = str(family_folder(family))
    base = load_base_model(folder, folder)
    student = HybridForCausalLM.from_base(base)
    pairs = [
        (base.body, student.backbone),
        (base.norm, student.head.classical.norm),
        (base.decoder, student.head.classical.decoder),
    ]
    for theirs, ours in pairs:
        copied = ours.state_dict()
        assert theirs.state_dict().keys() == copied.keys()
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, copied[name])
            assert tensor.data_ptr() != copied[name].data_ptr()
    assert (student.head.classical.decoder.bias is None) == (base.decoder.bias is None)
    dropouts = [m for m in student.modules() if isinstance(m, torch.nn.Dropout)]
    assert not any(dropout.training for dropout in dropouts)


def test_from_base_takes_the_geometry_of_the_run(make_student) -> None:
    student = make_student(n_qubits=3, n_layers=2, entangler="none", engine="statevector")
    quantum = student.head.quantum
    for circuit in (quantum.circuit1, quantum.circuit2):
        assert circuit.weights.shape == (2, 3)
        assert (circuit.ansatz.entangler, circuit.engine) == ("none", "statevector")
    assert quantum.down.weight.shape == (3, 32)
    assert quantum.up.weight.shape == (512, 3)
    assert student.config.eos_token_id == 0
    assert student.get_input_embeddings().weight.shape == (512, 32)
