"""The conversion of the embedded model: complete, reused, and not repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import AutoConfig, modeling_gguf_pytorch_utils
from transformers.utils import logging

from quantum_hybrid import model_files
from quantum_hybrid.backbone import embedded, prepare_embedded
from quantum_hybrid.config import EMBEDDED


def test_a_converted_model_is_used_as_it_is() -> None:
    first = prepare_embedded()
    said: list[str] = []
    assert prepare_embedded(said.append) == first
    assert said == []


def test_it_is_the_model_that_the_documentation_speaks_of() -> None:
    config = AutoConfig.from_pretrained(prepare_embedded())
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49_152)
    assert getattr(config, "quantization_config", None) is None


@pytest.fixture
def gguf(tmp_path, monkeypatch) -> Path:
    """What stands for the embedded GGUF; converting it copies its bytes."""

    def convert(gguf: Path, folder: Path) -> None:
        list(modeling_gguf_pytorch_utils.tqdm([gguf], desc="Converting"))  # pyright: ignore
        list(logging.tqdm([folder], desc="Writing model shards"))
        folder.mkdir()
        (folder / "model").write_bytes(gguf.read_bytes())

    file = tmp_path / "model.gguf"
    put(file, b"one", at_s=1)
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_convert", convert)
    for module in (embedded, model_files):
        monkeypatch.setattr(module, "embedded_gguf", lambda announce=print: file)
    return file


def put(file: Path, content: bytes, at_s: int) -> None:
    file.write_bytes(content)
    os.utime(file, (at_s, at_s))


def test_a_model_that_was_converted_from_another_file_is_not_used(gguf) -> None:
    """Neither of another file of the same name and length, nor by an older version."""
    older = gguf.parent / "cache" / "models" / "SmolLM2-135M-Instruct"
    older.mkdir(parents=True)
    (older / "model").write_bytes(b"older")
    said: list[str] = []
    first = prepare_embedded(said.append)
    assert (first / "model").read_bytes() == b"one"
    put(gguf, b"two", at_s=2)
    second = prepare_embedded(said.append)
    assert (second / "model").read_bytes() == b"two"
    assert len(said) == 2
    put(gguf, b"one", at_s=3)
    assert prepare_embedded(said.append) == first
    assert len(said) == 2, "what is converted stays"
    assert (older / "model").read_bytes() == b"older"


def test_no_progress_bar_is_shown_while_it_is_converted(gguf, capsys) -> None:
    before = vars(modeling_gguf_pytorch_utils)["tqdm"]
    prepare_embedded(lambda _: None)
    assert capsys.readouterr() == ("", "")
    assert vars(modeling_gguf_pytorch_utils)["tqdm"] is before


def test_the_model_that_is_loaded_is_the_one_that_was_converted(gguf) -> None:
    assert model_files.find_base_model(EMBEDDED) == str(prepare_embedded(lambda _: None))
    put(gguf, b"another", at_s=2)
    assert model_files.find_base_model(EMBEDDED) == str(prepare_embedded(lambda _: None))
