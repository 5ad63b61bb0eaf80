"""The embedded model as a torch model, de-quantised once from its GGUF into the cache.

SmolLM2-135M-Instruct comes as a 4-bit GGUF (`embedded_weights`). transformers takes up to a minute
to read it, so the float32 model and its tokenizer are saved in Hugging Face format and loaded from
there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging as transformers_logging

from quantum_hybrid.durable import whole_folder
from quantum_hybrid.embedded_weights import embedded_gguf
from quantum_hybrid.model_files import embedded_folder
from quantum_hybrid.output import say
from quantum_hybrid.paths import writable_cache_directory


def prepare_embedded(announce: Callable[[str], None] = say) -> Path:
    """The folder of the converted embedded model; it is converted first if necessary.

    A model that was converted from another GGUF is in another folder. Raises `UsageError` if the
    GGUF cannot be fetched or the cache folder cannot be written.
    """
    gguf = embedded_gguf(announce)
    folder = embedded_folder(gguf)
    if folder.exists():
        return folder
    writable_cache_directory()
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            announce("converting the embedded model, once: about half a minute")
            transformers_logging.disable_progress_bar()
            with _quiet_reader():
                _convert(gguf, folder)
    return folder


def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The embedded teacher's own tokenizer."""
    return AutoTokenizer.from_pretrained(prepare_embedded())


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """No progress bar of transformers' reader of GGUF files: it takes tqdm past the library's own
    switch."""
    loud = vars(modeling_gguf_pytorch_utils)["tqdm"]
    setattr(modeling_gguf_pytorch_utils, "tqdm", partial(loud, disable=True))  # noqa: B010
    try:
        yield
    finally:
        setattr(modeling_gguf_pytorch_utils, "tqdm", loud)  # noqa: B010


def _convert(gguf: Path, folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # transformers refuses to save a model that is marked as quantised; this one is float32 by now.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # transformers ignores the GGUF's `tokenizer.ggml.pre = smollm`, which splits digits.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    with whole_folder(folder) as half_written:
        model.save_pretrained(half_written)
        tokenizer.save_pretrained(half_written)
