"""Checkpoints: the state from which a run resumes with the same figures as an unbroken run.

    checkpoints/step-000020/state.safetensors   trained parameters and AdamW's moments
                           /meta.json           format, progress, SHA-256 of state and progress

A checkpoint is a folder that is created by one rename, so it is never incomplete. The last
`checkpoints_kept` are kept. A damaged checkpoint is reported and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW

from quantum_hybrid.durable import remove_folder, whole_folder
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.student import HybridForCausalLM


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    """Training steps done."""
    groups_drawn: int = 0
    """Groups taken from the schedule, including those that were left out."""


FORMAT = 1
"""Version of the files' content; increase it when their meaning changes. A checkpoint without a
version has format 1."""
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_NAME = re.compile(r"step-\d+")


def save_checkpoint(
    folder: Path, student: HybridForCausalLM, optimizer: AdamW, progress: Progress, kept: int
) -> None:
    """Write a checkpoint, then remove all but the last `kept`.

    Raises `WriteError` if it cannot be written; earlier checkpoints are then untouched.
    """
    with whole_folder(folder / f"step-{progress.step:06d}") as checkpoint:
        state = checkpoint / "state.safetensors"
        save_file(training_state(student, optimizer), state)
        meta = {"format": FORMAT, **asdict(progress), "sha256": _sha256(state, progress)}
        (checkpoint / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    for path in _checkpoints(folder):
        if _step(path) > progress.step:  # The run resumed from an earlier step, so it is stale.
            remove_folder(path)
    tidy_checkpoints(folder, progress.step, kept)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one, whole or damaged."""
    return bool(_checkpoints(folder))


def load_checkpoint(
    folder: Path,
    student: HybridForCausalLM,
    optimizer: AdamW,
    announce: Callable[[str], None],
) -> Progress | None:
    """Restore the newest undamaged checkpoint and return its progress; None if there is none.

    Nothing on the disk changes. `announce` is called for each damaged checkpoint. Raises
    `CheckpointError` if every checkpoint is damaged or the newest usable one does not fit.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            progress, state = _read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            announce(f"checkpoint {path} cannot be used ({error}); trying the one before it")
            continue
        restore(str(path), state, student, optimizer)
        return progress
    if _checkpoints(folder):
        raise CheckpointError(
            f"{folder}: no checkpoint can be used; start a new run to train from the beginning"
        )
    return None


def training_state(student: HybridForCausalLM, optimizer: AdamW) -> dict[str, Tensor]:
    """Trained parameters and AdamW's moments by name, in the order of the student's parameters."""
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
    if (found := meta.get("format", FORMAT)) != FORMAT:
        raise ValueError(f"it is of format {found}, this program reads {FORMAT}")
    state = path / "state.safetensors"
    progress = Progress(step=meta["step"], groups_drawn=meta["groups_drawn"])
    if _sha256(state, progress) != meta["sha256"]:
        raise ValueError("its SHA-256 does not match")
    return progress, load_file(state)


@torch.no_grad()
def restore(
    source: str, state: dict[str, Tensor], student: HybridForCausalLM, optimizer: AdamW
) -> None:
    """Restore a `training_state`; `state` is empty afterwards.

    Raises `CheckpointError`, which names `source`, if the state is that of another student.
    """
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        stored = state.pop(f"parameter/{name}", None)
        if stored is None or stored.shape != parameter.shape:
            raise CheckpointError(f"{source}: holds no {name} of shape {tuple(parameter.shape)}")
        parameter.copy_(stored)
        moments = {m: state.pop(f"{m}/{name}") for m in _MOMENTS if f"{m}/{name}" in state}
        if moments:
            optimizer.state[parameter] = moments
    if state:
        raise CheckpointError(f"{source}: holds unknown tensors such as {next(iter(state))}")


def tidy_checkpoints(folder: Path, step: int, kept: int) -> None:
    """Remove all but the last `kept` checkpoints up to `step`, and a killed process's leftovers."""
    for hidden in folder.glob(".step-*"):
        shutil.rmtree(hidden)
    for old in [path for path in _checkpoints(folder) if _step(path) <= step][:-kept]:
        remove_folder(old)


def _checkpoints(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _sha256(path: Path, progress: Progress) -> str:
    """SHA-256 of the file's content followed by the progress as JSON."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(asdict(progress)).encode())
    return digest.hexdigest()
