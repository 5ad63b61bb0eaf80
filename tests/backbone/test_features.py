"""The store of hidden states: addressed by content, never partial, bounded in size."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quantum_hybrid.backbone import FeatureStore, drop_layers, load_base_model
from quantum_hybrid.backbone.features import fingerprint
from quantum_hybrid.errors import UsageError
from tiny import byte_level_tokenizer

D_MODEL = 4
TOKENS, POSITIONS = (5, 7, 9, 11), [1, 2]
HIDDEN = torch.arange(8.0).view(2, D_MODEL) / 3

WRITER = """
import sys
from pathlib import Path
import torch
from quantum_hybrid.backbone import FeatureStore

store = FeatureStore(Path(sys.argv[1]), 1000)
for i in range(10**9):
    number = i % 50
    store.rows((number,), [0], lambda: torch.full((1, 1000), float(number)))
    if number == 49:
        for path in store.folder.glob("[!.]*"):
            path.unlink(missing_ok=True)
    if i == 120:
        print("writing", flush=True)
"""


def unexpected() -> torch.Tensor:
    raise AssertionError("computed again")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with one text in it."""
    store = FeatureStore(tmp_path / "features" / "one", D_MODEL)
    store.rows(TOKENS, POSITIONS, lambda: HIDDEN)
    return store


def only_file(store: FeatureStore) -> Path:
    (path,) = store.folder.iterdir()
    return path


def test_what_is_kept_comes_back_bit_for_bit(store) -> None:
    again = FeatureStore(store.folder, D_MODEL).rows(TOKENS, POSITIONS, unexpected)
    assert torch.equal(again, HIDDEN)
    again += 1  # the caller's own: nothing of it reaches the file
    assert torch.equal(store.rows(TOKENS, POSITIONS, unexpected), HIDDEN)


@pytest.mark.parametrize(
    ("tokens", "positions"), [((5, 7, 9, 12), [1, 2]), ((5, 7, 9), [1, 2]), (TOKENS, [0, 1])]
)
def test_another_text_or_other_positions_are_computed(store, tokens, positions) -> None:
    assert torch.equal(store.rows(tokens, positions, lambda: HIDDEN + 1), HIDDEN + 1)
    assert torch.equal(store.rows(TOKENS, POSITIONS, unexpected), HIDDEN)


def _flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": _flip_bit,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "empty": lambda path: path.write_bytes(b""),
    "shorter than a checksum": lambda path: path.write_bytes(b"abc"),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 4),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_computed_and_mended(store, damage) -> None:
    damage(only_file(store))
    assert torch.equal(store.rows(TOKENS, POSITIONS, lambda: HIDDEN), HIDDEN)
    assert torch.equal(store.rows(TOKENS, POSITIONS, unexpected), HIDDEN)


def test_the_file_of_another_text_under_this_name_is_damage(store) -> None:
    name = only_file(store)
    store.rows((1, 2, 3), POSITIONS, lambda: HIDDEN + 1)
    (other,) = (path for path in store.folder.iterdir() if path != name)
    os.replace(other, name)
    assert torch.equal(store.rows(TOKENS, POSITIONS, lambda: HIDDEN), HIDDEN)


def test_two_writers_killed_at_any_moment_leave_whole_files(tmp_path) -> None:
    """Both processes write and remove the same 50 texts repeatedly."""
    folder = tmp_path / "features" / "one"
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    n_whole = len(list(folder.glob("[!.]*")))
    store, computed = FeatureStore(folder, 1000), []
    for number in range(50):
        wanted = torch.full((1, 1000), float(number))
        hidden = store.rows((number,), [0], lambda w=wanted: computed.append(1) or w)
        assert torch.equal(hidden, wanted)
    assert len(computed) == 50 - n_whole  # a file under its name is never a half-written one


def test_what_was_written_longest_ago_is_removed(store) -> None:
    size = only_file(store).stat().st_size
    old = only_file(store)
    os.utime(old, (1, 1))
    other = FeatureStore(store.folder.parent / "two", D_MODEL)
    other.rows(TOKENS, POSITIONS, lambda: HIDDEN)
    FeatureStore(store.folder, D_MODEL, largest_bytes=2 * size)
    assert old.exists()
    FeatureStore(store.folder, D_MODEL, largest_bytes=2 * size - 1)
    assert not old.exists()
    assert torch.equal(other.rows(TOKENS, POSITIONS, unexpected), HIDDEN)


def test_the_folder_may_be_removed_while_a_run_uses_it(store) -> None:
    only_file(store).unlink()
    store.folder.rmdir()
    store.rows(TOKENS, POSITIONS, lambda: HIDDEN)
    assert torch.equal(store.rows(TOKENS, POSITIONS, unexpected), HIDDEN)


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "features").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match=r"features.*cannot be kept .*QUANTUM_HYBRID_CACHE"):
        FeatureStore(tmp_path / "features" / "one", D_MODEL)


@pytest.fixture
def base(small_llama):
    """A base model for one test only."""
    return load_base_model(str(small_llama), str(small_llama))


def test_the_fingerprint_is_of_content_wherever_it_lies(base, tmp_path) -> None:
    from tiny import save_small_llama

    again = save_small_llama(tmp_path / "elsewhere")
    other = load_base_model(str(again), str(again))
    assert fingerprint(other.body, other.tokenizer) == fingerprint(base.body, base.tokenizer)


def test_one_weight_makes_another_fingerprint(base) -> None:
    before = fingerprint(base.body, base.tokenizer)
    weight = next(base.body.parameters()).detach()
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    assert fingerprint(base.body, base.tokenizer) != before


def test_one_buffer_that_is_never_saved_makes_another(base) -> None:
    before = fingerprint(base.body, base.tokenizer)
    frequencies = dict(base.body.named_buffers())["rotary_emb.inv_freq"]
    frequencies[1] *= 2
    assert fingerprint(base.body, base.tokenizer) != before


def test_another_dtype_or_number_of_layers_makes_another(base) -> None:
    shorter = copy.deepcopy(base.body)
    drop_layers(shorter, range(1, 2))
    double = copy.deepcopy(base.body).double()
    found = {fingerprint(body, base.tokenizer) for body in (base.body, shorter, double)}
    assert len(found) == 3


def test_one_entry_of_the_tokenizer_makes_another(base) -> None:
    first, second, third = (byte_level_tokenizer(512) for _ in range(3))
    second.add_tokens(["one entry"])
    third.chat_template = "{{ messages[0].content }}"
    before = fingerprint(base.body, first)
    assert fingerprint(base.body, byte_level_tokenizer(512)) == before
    assert len({before, fingerprint(base.body, second), fingerprint(base.body, third)}) == 3


def test_using_a_tokenizer_makes_no_other_fingerprint(base) -> None:
    before = fingerprint(base.body, base.tokenizer)
    base.tokenizer(["one text", "a longer text"], padding=False)
    assert fingerprint(base.body, base.tokenizer) == before


def test_threads_make_another(base, monkeypatch) -> None:
    """These settings determine how sums are rounded."""
    before = fingerprint(base.body, base.tokenizer)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert fingerprint(base.body, base.tokenizer) != before
