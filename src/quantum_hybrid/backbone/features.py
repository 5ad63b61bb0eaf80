"""Hidden states of a frozen backbone, kept on disk: each text goes through the backbone once.

    (fingerprint of the backbone, token row, positions) ─► hidden states at these positions

What is kept is found by content alone. The fingerprint covers all that the numbers depend on: every
weight and buffer that is left after layers were dropped, the configuration, the tokenizer, and what
decides in which order a sum is rounded (versions of torch and transformers, instruction set,
threads). A backbone that differs in any of it has a folder of its own.

One file a text, under the cache directory in features/FINGERPRINT/: 64 hexadecimal digits, the
SHA-256 of the text's address and the numbers, then the numbers, which are memory-mapped. A file of
its own and not a place in a common one, because a file that appears by one rename needs no lock and
no index: a killed process leaves at most a temporary file, and two runs that compute the same text
write the same bytes. Nothing is forced onto the disk: what a power cut damages does not fit its
checksum and is computed again.

When a store is opened, the files that were written longest ago are removed until no more than
`LARGEST_BYTES` are left, of all backbones together. The folder may be removed at any time.
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

from quantum_hybrid.config import cache_directory
from quantum_hybrid.errors import UsageError

FORMAT = 1
LARGEST_BYTES = 4 * 2**30
"""About 30,000 answers of 64 tokens, at 576 numbers a token."""
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
        """What is kept of a text at these positions; else what `compute` says, which is kept."""
        address = _address(tokens, positions)
        found = self._read(address, len(positions))
        if found is not None:
            return found
        hidden = compute()
        self._write(address, hidden.detach().contiguous().numpy().tobytes())
        return hidden

    def _read(self, address: str, n_rows: int) -> Float[Tensor, "rows d_model"] | None:
        """None where there is nothing, or something else than was written."""
        try:
            # Copy on write: torch takes no read-only memory, and the file never changes.
            data = np.memmap(self.folder / address, dtype=np.uint8, mode="c")
        except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
            return None
        numbers = data[DIGEST_LENGTH:]
        if len(numbers) != 4 * n_rows * self._d_model:
            return None
        if data[:DIGEST_LENGTH].tobytes() != _digest(address, numbers.data):
            return None
        return torch.from_numpy(numbers.view(np.float32)).view(n_rows, self._d_model)

    def _write(self, address: str, numbers: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
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
    """SHA-256 of all that a backbone's hidden states depend on, but for the text."""
    digest = hashlib.sha256(json.dumps(_settings(body, tokenizer), sort_keys=True).encode())
    for name, tensor in _tensors(body):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(body: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Buffers too, and also those that are never saved, as rotary frequencies."""
    yield from body.named_parameters()
    yield from body.named_buffers()


def _settings(body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    config = body.config.to_dict()
    config.pop("_name_or_path", None)  # where it was loaded from changes nothing
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
    """Of all backbones. Another run may remove the same files meanwhile, or add some."""
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
