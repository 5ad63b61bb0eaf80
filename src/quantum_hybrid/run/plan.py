"""The directory, settings and prompts of a run, determined before anything is written.

A new run takes the user's settings and the defaults for the rest. A resumed run takes the settings
in its config.json; settings that the user gives must agree with them. Prompts of a file are read
from it once, by the new run, and from the copy in the run directory afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quantum_hybrid.config import RunConfig, ServerConfig
from quantum_hybrid.errors import CheckpointError, UsageError
from quantum_hybrid.paths import user_path
from quantum_hybrid.report.groups_page import groups_page_path
from quantum_hybrid.text import PromptSet, PromptsFile, built_in_prompts, read_prompts_file

FREE_TO_CHANGE = (
    "timeout",
    "num_max_requests_at_once",
    "input_price",
    "output_price",
    "max_cost",
    "max_requests",
    "allow_clear_text",
)
"""Settings of the teacher that may change when a run resumes: no answer depends on them."""


@dataclass(frozen=True)
class RunPlan:
    """The directory and the settings of a new or resumed run."""

    path: Path
    config: RunConfig
    server: ServerConfig
    resumes: bool
    trainer: str | None = None
    """Address of the Atropos API that a new run serves, or that a resumed one was begun to serve;
    None for a run of `process`."""
    prompts: PromptSet = field(default_factory=built_in_prompts)
    prompts_file: PromptsFile | None = None
    """The file that `prompts` were read from just now; None for built-in or resumed ones."""


def resolve(env: Mapping[str, Any], openai: Mapping[str, Any]) -> RunPlan:
    """The plan for the user's settings. If `env["run_dir"]` holds a run, the plan resumes it.

    Raises `UsageError` for a value that contradicts the resumed run, and for a directory that holds
    other files and no run.
    """
    if env.get("run_dir") is None:
        path = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
        return _new_plan(path, RunConfig(**env), ServerConfig(**openai))
    field = f"`run_dir` {env['run_dir']!r}"
    if env["run_dir"] == "":  # It would stand for the working directory.
        raise UsageError(f"{field}: must name a directory, a new one or that of a run to resume")
    path = user_path(str(env["run_dir"]), field)
    try:
        if not path.exists() or (path.is_dir() and not _entries(path)):
            return _new_plan(path, RunConfig(**env), ServerConfig(**openai))
        if not path.is_dir():
            raise UsageError(f"{field}: is a file, must be a directory")
        if not (path / "config.json").is_file():
            raise UsageError(f"{field}: holds other files and no run; name a new directory")
    except OSError as error:
        raise UsageError(f"{field}: cannot be read: {error.strerror}") from error
    plan = recorded(path)
    free = {name: value for name, value in openai.items() if name in FREE_TO_CHANGE}
    plan = replace(plan, server=plan.server.model_copy(update=free))
    others = {name: value for name, value in env.items() if name != "run_dir"}
    _refuse_changes(field, others, plan.config)
    _refuse_changes(field, openai, plan.server)
    return plan


def recorded(path: Path) -> RunPlan:
    """The plan that resumes the run in the directory `path`.

    Raises `UsageError` if its config.json cannot be read, `CheckpointError` if it is not valid.
    """
    file = path / "config.json"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        # Runs older than a field get its default.
        config = RunConfig(**stored["env"] | {"run_dir": str(path)})
        server = ServerConfig(**stored["openai"])
        trainer, prompts = stored.get("trainer"), _kept_prompts(path, stored.get("prompts"))
        return RunPlan(path, config, server, resumes=True, trainer=trainer, prompts=prompts)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise CheckpointError(f"{file}: not a run's configuration: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: not a run's configuration") from error


def existing_run(named: str) -> Path:
    """The directory of a run to evaluate. Raises `UsageError` if it is not one."""
    field = f"`run_dir` {named!r}"
    path = user_path(named, field)
    try:
        is_run = bool(named) and (path / "config.json").is_file()
    except OSError as error:
        raise UsageError(f"{field}: cannot be read: {error.strerror}") from error
    if not is_run:
        raise UsageError(f"{field}: must be the directory of a run to evaluate")
    return path


def _kept_prompts(path: Path, source: Mapping[str, Any] | None) -> PromptSet:
    """The prompts of the run at `path`; `source` is what its config.json says of them.

    Raises `CheckpointError` if they are not those that the run was begun with.
    """
    if source is None:
        return built_in_prompts()
    file = path / "prompts.jsonl"
    try:
        lines = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(lines).hexdigest() != source["sha256_kept"]:
        raise CheckpointError(f"{file}: does not hold the prompts that the run was begun with")
    return PromptSet.from_lines(lines, str(file))


def refuse_finished(plan: RunPlan) -> None:
    """Raise `UsageError` if the run is complete, so that no more groups can be served into it."""
    if (plan.path / "summary.json").is_file():
        raise UsageError(
            f"`run_dir` {str(plan.path)!r}: is a finished run and serves no more groups; "
            "name a new directory"
        )


def _new_plan(path: Path, config: RunConfig, server: ServerConfig) -> RunPlan:
    if config.data_path_to_save_groups is not None:
        _check_groups_file(path, config.data_path_to_save_groups)
    if config.prompts is None:
        return RunPlan(path, config, server, resumes=False)
    read = read_prompts_file(config.prompts)
    return RunPlan(path, config, server, resumes=False, prompts=read.prompts, prompts_file=read)


def _check_groups_file(run: Path, named: str) -> None:
    """Raise `UsageError` if the file exists, or if its folder cannot be written.

    A folder within the run directory is made by the run.
    """
    field = f"`data_path_to_save_groups` {named!r}"
    file = user_path(named, field)
    try:
        for taken in (file, groups_page_path(file)):
            if taken.exists():
                raise UsageError(f"{field}: {taken} exists; name a new file")
        if not file.resolve().is_relative_to(run.resolve()):
            with tempfile.TemporaryFile(dir=file.parent):
                pass
    except OSError as error:
        raise UsageError(f"{field}: cannot be written: {error.strerror}") from error


def _entries(path: Path) -> set[str]:
    """Entries of the directory, except files of a run that was killed while it was created.

    Such a run has left its lock, so prompts.jsonl beside one is its own and nobody else's.
    """
    entries = set(os.listdir(path))
    return entries - _OF_A_NEW_RUN if ".lock" in entries else entries


_OF_A_NEW_RUN = {".lock", ".config.json.tmp", ".prompts.jsonl.tmp", "prompts.jsonl"}


def _refuse_changes(field: str, given: Mapping[str, Any], stored: RunConfig | ServerConfig) -> None:
    for name, value in given.items():
        kept = getattr(stored, name)
        if value != kept and str(value) != str(kept):  # YAML may give a number for a text field.
            raise UsageError(
                f"`{name}` {value}: {field} resumes a run made with {kept}; leave it out, or "
                "name a new directory"
            )
