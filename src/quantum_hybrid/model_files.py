"""Find the files of a base model by its name, without importing torch.

A name stands for the first of: `embedded`, the model that comes with the install; a local folder
with a config.json; a model of the Hugging Face hub, from the local hub cache or to be downloaded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from quantum_hybrid.config import EMBEDDED
from quantum_hybrid.embedded_weights import embedded_gguf, sha256_of
from quantum_hybrid.errors import UsageError
from quantum_hybrid.paths import cache_directory, user_path

HUB_TIMEOUT_S = 2.0


def find_base_model(name: str) -> str:
    """The argument of `from_pretrained` for this name: a folder or a hub name.

    Raises `UsageError` within a few seconds if there is no such model or the hub cannot be reached.
    """
    if name == EMBEDDED:
        return str(embedded_folder(embedded_gguf()))
    folder = user_path(name, f"`base_model_name` {name!r}")
    if folder.is_dir():
        return _checked_folder(name, folder)
    if folder.exists() or name.startswith((".", "/", "~")):
        raise UsageError(f"`base_model_name` {name!r}: no such model folder")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UsageError(
            f"`base_model_name` {name!r}: must be {EMBEDDED}, a local folder, or a hub name"
        )
    return _checked_hub_name(name)


def embedded_folder(gguf: Path) -> Path:
    """Folder of the embedded model converted from this file; `backbone.prepare_embedded` writes it.

    Its name holds the file's digest, so a model converted from another file is never used.
    """
    return cache_directory() / "models" / f"SmolLM2-135M-Instruct-{sha256_of(gguf)[:16]}"


def _checked_folder(name: str, folder: Path) -> str:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"`base_model_name` {name!r}: the folder holds no config.json") from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"`base_model_name` {name!r}: its config.json cannot be read: {error}"
        ) from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise UsageError(f"`base_model_name` {name!r}: its config.json names no model_type")
    return str(folder)


def _checked_hub_name(name: str) -> str:
    import httpx2
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return name
    try:
        url = f"{constants.ENDPOINT}/{name}/resolve/main/config.json"
        status = httpx2.head(url, timeout=HUB_TIMEOUT_S, follow_redirects=True).status_code
    except httpx2.HTTPError as error:
        raise UsageError(
            f"`base_model_name` {name!r}: neither a local folder nor in the local hub cache, "
            f"and the hub cannot be reached ({type(error).__name__})"
        ) from error
    if status != 200:
        raise UsageError(
            f"`base_model_name` {name!r}: neither a local folder nor a public model of the hub "
            f"(it answered {status})"
        )
    return name
