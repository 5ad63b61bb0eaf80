"""Hidden states of a frozen backbone, cached on disk so that each text is computed once.

    (fingerprint of the backbone, token row, positions) ─► hidden states at these positions

The address is a hash of content alone. The fingerprint covers everything that the values depend on:
all weights and buffers after layers were dropped, the configuration, the tokenizer, and what
determines the rounding of sums (versions of torch and transformers, instruction set, threads). A
backbone that differs in any of these has a folder of its own.

There is one file per text, in features/FINGERPRINT/ of the cache directory. It starts with 64
hexadecimal digits, the SHA-256 of the text's address and the values; the values follow and are
memory-mapped. A file that appears by one rename needs no lock and no index: a killed process leaves
at most a temporary file, and two runs that compute the same text write the same bytes. Files are
not synced to the disk: one that a power cut damages fails its checksum and is computed again.

When a store is opened, the oldest files of all backbones are removed until at most `LARGEST_BYTES`
remain. The folder may be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from quantum_hybrid.errors import UsageError
from quantum_hybrid.paths import cache_directory

FORMAT = 1
LARGEST_BYTES = 4 * 2**30
"""Room for about 30,000 answers of 64 tokens, with d_model = 576 in float32."""
DIGEST_LENGTH = 64


class FeatureStore:
    """Hidden states of one backbone. Raises `UsageError` where its folder cannot be written."""

    def __init__(self, folder: Path, d_model: int, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = folder
        self._d_model = d_model
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_be_kept(folder, error) from error
        _remove_oldest(folder.parent, largest_bytes)

    @classmethod
    def of(cls, body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> FeatureStore:
        """The store of a backbone, in the user's cache directory."""
        folder = cache_directory() / "features" / fingerprint(body, tokenizer)
        embedding = cast(Tensor, body.get_input_embeddings().weight)
        return cls(folder, embedding.shape[1])

    def rows(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        compute: Callable[[], Float[Tensor, "rows d_model"]],
    ) -> Float[Tensor, "rows d_model"]:
        """Hidden states of a text at these positions, read from disk or computed and stored."""
        address = _address(tokens, positions)
        found = self._read(address, len(positions))
        if found is not None:
            return found
        hidden = compute()
        self._write(address, hidden.detach().contiguous().numpy().tobytes())
        return hidden

    def _read(self, address: str, n_rows: int) -> Float[Tensor, "rows d_model"] | None:
        """The stored hidden states; None if there is no file or it is damaged."""
        try:
            # Mode "c" is copy-on-write: torch warns about read-only arrays, and a write must not
            # reach the file.
            data = np.memmap(self.folder / address, dtype=np.uint8, mode="c")
        except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped.
            return None
        numbers = data[DIGEST_LENGTH:]
        if len(numbers) != 4 * n_rows * self._d_model:
            return None
        if data[:DIGEST_LENGTH].tobytes() != _digest(address, numbers.data):
            return None
        return torch.from_numpy(numbers.view(np.float32)).view(n_rows, self._d_model)

    def _write(self, address: str, numbers: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # The user may have removed it.
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_digest(address, numbers) + numbers)
                os.replace(temporary, self.folder / address)
            except OSError:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise _cannot_be_kept(self.folder, error) from error


def fingerprint(body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of everything except the text that a backbone's hidden states depend on."""
    digest = hashlib.sha256(json.dumps(_settings(body, tokenizer), sort_keys=True).encode())
    for name, tensor in _tensors(body):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(body: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, including unsaved buffers such as rotary frequencies."""
    yield from body.named_parameters()
    yield from body.named_buffers()


def _settings(body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    config = body.config.to_dict()
    config.pop("_name_or_path", None)  # The values do not depend on the path.
    return {
        "format": str(FORMAT),
        "architecture": type(body).__name__,
        "attention": str(getattr(body.config, "_attn_implementation", None)),
        "config": json.dumps(config, sort_keys=True, default=str),
        "tokenizer": _tokenizer_content(tokenizer),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "matmul": torch.get_float32_matmul_precision(),
        "threads": str(torch.get_num_threads()),
    }


def _tokenizer_content(tokenizer: PreTrainedTokenizerBase) -> str:
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        content = tokenizer.backend_tokenizer.to_str()
    else:
        content = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return json.dumps([content, tokenizer.chat_template])


def _address(tokens: Sequence[int], positions: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps([list(tokens), list(positions)]).encode()).hexdigest()


def _digest(address: str, numbers: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(address.encode())
    digest.update(numbers)
    return digest.hexdigest().encode()


def _remove_oldest(features: Path, largest_bytes: int) -> None:
    """Remove the oldest files of all backbones until at most `largest_bytes` remain.

    Another run may remove or add files at the same time.
    """
    files = []
    for path in features.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= largest_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def _cannot_be_kept(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{folder}: hidden states cannot be kept ({error.strerror}); free some room, or name "
        "another place in QUANTUM_HYBRID_CACHE"
    )
