"""The `--config` file: YAML with the sections `env:` and `openai:`, checked like the flags.

`openai:` may be a list of servers, as in Atropos's own files.
"""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import fields
from typing import Any

from quantum_hybrid.config import KEY_VARIABLE, PER_SERVER, RunConfig, ServerConfig
from quantum_hybrid.errors import UsageError

SECTIONS: dict[str, type] = {"env": RunConfig, "openai": ServerConfig}


def read_config_file(path: str) -> dict[str, dict[str, Any]]:
    """What the file sets, by section; a `UsageError` names the entry that is wrong."""
    content = _content(path)
    if not isinstance(content, dict) or not set(content) <= set(SECTIONS):
        raise UsageError(f"--config {path}: must hold the sections env: and openai: only")
    for section, cls in SECTIONS.items():
        values = content.setdefault(section, {})
        if section == "openai" and isinstance(values, list):
            content[section] = _several_servers(path, values)
        else:
            _check_section(path, section, cls, values)
    return content


def refuse_keys_in(path: str) -> None:
    """A `UsageError` if a file for Atropos's own command line holds a key, which it would print."""
    if "api_key" in _entries(_content(path)):
        raise UsageError(
            f"--config {path}: api_key: keys are read from the environment only, set {KEY_VARIABLE}"
        )


def _entries(content: Any) -> set[str]:
    """Names of the entries that have a value, at any depth."""
    if isinstance(content, list):
        return set().union(*map(_entries, content))
    if not isinstance(content, dict):
        return set()
    named = {str(name) for name, value in content.items() if value not in (None, "")}
    return named.union(*map(_entries, content.values()))


def _content(path: str) -> Any:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return yaml.safe_load(file) or {}
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path}: not a YAML file: {reason}") from error


def _several_servers(path: str, entries: list[Any]) -> dict[str, Any]:
    """Atropos's list of servers as one `ServerConfig`, in which commas part them."""
    where = f"--config {path}: openai"
    merged: dict[str, Any] = {}
    for entry in entries:
        _check_section(path, "openai", ServerConfig, entry)
        if "base_url" not in entry:
            raise UsageError(f"{where}: every server of a list must have a base_url")
        merged |= entry
    for name in merged:
        values = [entry.get(name) for entry in entries]
        if name in PER_SERVER:
            merged[name] = ",".join("" if value is None else value for value in values)
        elif any(value not in (None, merged[name]) for value in values):
            raise UsageError(f"{where}: {name} must be the same for all servers")
    return merged


def _check_section(path: str, section: str, cls: type, values: Any) -> None:
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: {section}: must be a mapping")
    known = {field.name for field in fields(cls)}
    for name, value in values.items():
        where = f"--config {path}: {section}.{name}"
        if name not in known:
            raise UsageError(f"{where}{suggestion(f'--{section}.{name}')}")
        kind, choices = value_type(cls, name)
        if choices and value not in choices:
            raise UsageError(f"{where} {value!r}: must be one of {', '.join(choices)}")
        if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
            value = values[name] = str(value)  # a price, or a model that is called by a number
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            values[name], right = float(value), True
        if not right:
            raise UsageError(f"{where} {value!r}: must be a {kind.__name__}")


def value_type(cls: type, name: str) -> tuple[type, tuple[str, ...] | None]:
    """The type of a dataclass's field, and the values allowed where it is a choice."""
    hint = typing.get_type_hints(cls)[name]
    if typing.get_origin(hint) is typing.Literal:
        return str, typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        hint = next(t for t in typing.get_args(hint) if t is not type(None))
    return hint, None


def suggestion(flag: str) -> str:
    """What to say after an unknown flag."""
    if flag.startswith("--openai.") and "key" in flag:
        return f": keys are read from the environment only, set {KEY_VARIABLE}"
    known = [f"--{section}.{f.name}" for section, cls in SECTIONS.items() for f in fields(cls)]
    close = difflib.get_close_matches(flag, known, n=1)
    return f": did you mean {close[0]}?" if close else ": see --help"
