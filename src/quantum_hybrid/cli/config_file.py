"""The `--config` file: YAML with the sections `env:` and `openai:` and the flags' names as keys.

`openai:` may be a list of servers, as in Atropos's own files. `config` checks the values later.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from quantum_hybrid.cli.flags import SECTIONS, suggestion
from quantum_hybrid.config import PER_SERVER
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import WHERE_KEYS_BELONG, hold_a_key
from quantum_hybrid.shown import shown


def read_config_file(path: str, known: Collection[str]) -> dict[str, Any]:
    """The file's entries as flag -> value. Raises `UsageError`, which names the wrong entry."""
    content = _content(path)
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: must hold the sections env: and openai: only")
    values: dict[str, Any] = {}
    for name, entry in content.items():
        if name in SECTIONS:
            values |= _section(path, name, entry, known)
        elif f"--{name}" in known:
            values[f"--{name}"] = entry
        else:
            raise UsageError(f"--config {path}: must hold the sections env: and openai: only")
    return values


def _content(path: str) -> Any:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if hold_a_key([text]):
            raise UsageError(f"--config {path}: holds an API key: {WHERE_KEYS_BELONG}")
        loader = yaml.SafeLoader(text)
        document = loader.get_single_node()
        if document is None:
            return {}
        _refuse_repeated_keys(path, document, depth=3)
        return loader.construct_document(document) or {}
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--config {path}: not a YAML file: {shown(str(error))}") from error


def _refuse_repeated_keys(path: str, node: Any, depth: int) -> None:
    """Raise `UsageError` for a key that a mapping of this YAML node holds twice.

    YAML forbids it, but the library keeps the last value. `depth` levels hold settings: the file,
    its sections, and the servers of a list. Deeper ones are refused anyway, and may be endless.
    """
    if depth == 0 or node.id == "scalar":
        return
    inner = node.value
    if node.id == "mapping":
        inner = [value for _, value in node.value]
        names = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in names[:index]:
                line = key.start_mark.line + 1
                name = shown(str(key.value))
                raise UsageError(f"--config {path}: line {line}: {name} is set twice")
    for value in inner:
        _refuse_repeated_keys(path, value, depth - 1)


def _section(path: str, section: str, entry: Any, known: Collection[str]) -> dict[str, Any]:
    if entry is None:  # All of its lines are comments.
        return {}
    if section == "openai" and isinstance(entry, list):
        entry = _several_servers(path, entry)
    if not isinstance(entry, dict):
        raise UsageError(f"--config {path}: {section}: must be a mapping")
    values: dict[str, Any] = {}
    for name, value in entry.items():
        flag, where = f"--{section}.{name}", f"--config {path}: {section}.{shown(str(name))}"
        if name == "api_key" and value in (None, ""):
            continue  # Atropos's files write an empty key where there is none.
        if flag not in known:
            raise UsageError(f"{where}{suggestion(flag, known)}")
        if isinstance(value, dict | list):
            raise UsageError(f"{where}: must be one value")
        values[flag] = value
    return values


def _several_servers(path: str, entries: list[Any]) -> dict[str, Any]:
    """Merge Atropos's list of servers into one section with comma-separated values."""
    where = f"--config {path}: openai"
    merged: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: must be a mapping")
        if "base_url" not in entry:
            raise UsageError(f"{where}: every server of a list must have a base_url")
        merged |= entry
    for name in merged:
        values = [entry.get(name) for entry in entries]
        if name in PER_SERVER:
            merged[name] = ",".join("" if value is None else str(value) for value in values)
        elif any(value not in (None, merged[name]) for value in values):
            raise UsageError(f"{where}: {name} must be the same for all servers")
    return merged
