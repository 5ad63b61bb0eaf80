"""Checkpoints: what has to be kept to go on exactly where a run stopped.

    checkpoints/step-000020/state.safetensors   trained parameters and AdamW's moments
                           /meta.json           progress, and the SHA-256 of both

A checkpoint is a folder that appears by one rename, so it is whole or not there. The last
`KEPT` stay. A damaged one is named and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW

from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.student import HybridForCausalLM

KEPT = 2


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    """Training steps done."""
    groups_drawn: int = 0
    """Groups taken from the schedule, those left out included."""


_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(
    folder: Path, student: HybridForCausalLM, optimizer: AdamW, progress: Progress
) -> None:
    """Write the present state, then drop all but the last `KEPT` checkpoints."""
    final = folder / f"step-{progress.step:06d}"
    half_written = folder / f".step-{progress.step:06d}.tmp"
    shutil.rmtree(half_written, ignore_errors=True)
    half_written.mkdir(parents=True)
    state = half_written / "state.safetensors"
    save_file(_state(student, optimizer), state)
    meta = asdict(progress) | {"sha256": _sha256(state, progress)}
    (half_written / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    for path in (state, half_written / "meta.json", half_written):
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(half_written, final)
    _sync(folder)
    for old in _checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path,
    student: HybridForCausalLM,
    optimizer: AdamW,
    announce: Callable[[str], None],
) -> Progress:
    """Restore the newest whole checkpoint; no progress where none was ever written."""
    for path in reversed(_checkpoints(folder)):
        try:
            progress, state = _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            announce(f"checkpoint {path} is damaged ({error}); trying the one before it")
            continue
        _restore(path, state, student, optimizer)
        return progress
    if _checkpoints(folder):
        raise CheckpointError(
            f"{folder}: no checkpoint is whole; delete the folder to train from the beginning"
        )
    return Progress()


def _state(student: HybridForCausalLM, optimizer: AdamW) -> dict[str, Tensor]:
    state = {}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            state[f"parameter/{name}"] = parameter.detach().contiguous()
            for moment in _MOMENTS:
                if moment in optimizer.state[parameter]:
                    state[f"{moment}/{name}"] = optimizer.state[parameter][moment].contiguous()
    return state


def _read(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    state = path / "state.safetensors"
    progress = Progress(step=meta["step"], groups_drawn=meta["groups_drawn"])
    if _sha256(state, progress) != meta["sha256"]:
        raise ValueError("its SHA-256 does not match")
    return progress, load_file(state)


@torch.no_grad()
def _restore(
    path: Path, state: dict[str, Tensor], student: HybridForCausalLM, optimizer: AdamW
) -> None:
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        stored = state.pop(f"parameter/{name}", None)
        if stored is None or stored.shape != parameter.shape:
            raise CheckpointError(f"{path}: holds no {name} of shape {tuple(parameter.shape)}")
        parameter.copy_(stored)
        moments = {m: state.pop(f"{m}/{name}") for m in _MOMENTS if f"{m}/{name}" in state}
        if moments:
            optimizer.state[parameter] = moments
    if state:
        raise CheckpointError(f"{path}: holds unknown tensors such as {next(iter(state))}")


def _checkpoints(folder: Path) -> list[Path]:
    found = folder.glob("step-*") if folder.is_dir() else ()
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _sha256(path: Path, progress: Progress) -> str:
    """Of the file, followed by the progress."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(asdict(progress)).encode())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
