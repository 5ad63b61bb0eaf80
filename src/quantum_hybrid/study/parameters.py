"""Trained parameters in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import CheckpointError


def write_parameters(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors, atomically."""
    write_bytes(file, save({name: t.detach().contiguous() for name, t in tensors.items()}))


def read_parameters(file: Path, into: Mapping[str, Tensor], is_not: str) -> dict[str, Tensor]:
    """Copy what the file holds into the tensors of the same names; all that it holds.

    Raises `CheckpointError` for other content: the file is not what `is_not` says.
    """
    try:
        kept = load_file(file)
        with torch.no_grad():
            for name, tensor in into.items():
                tensor.copy_(kept[name])
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file}: not {is_not}: {error}") from error
    return kept
