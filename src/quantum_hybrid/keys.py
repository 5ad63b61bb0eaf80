"""The environment variable that holds each server's API key. Keys have no other source.

    ATROPOS_HERMES_API_KEY    https://inference-api.nousresearch.com, and no other server
    OPENAI_API_KEY            any other server in first place in `base_url`
    OPENAI_API_KEY_2, ...     any other server in second place, ...

A configuration file from somebody else may name any address, so the Hermes key is sent to its own
server only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

HERMES_HOST = "inference-api.nousresearch.com"
HERMES_KEY_VARIABLE = "ATROPOS_HERMES_API_KEY"
KEY_VARIABLE = "OPENAI_API_KEY"
WHERE_KEYS_BELONG = (
    f"keys are read from the environment only, set {KEY_VARIABLE}, or {HERMES_KEY_VARIABLE} for "
    "Hermes"
)
SHORTEST_SECRET = 12
"""A shorter key, such as `none` or `EMPTY`, is a placeholder that may occur in any text."""


def key_variable(base_url: str, place: int) -> str:
    """Name of the variable for the server at `base_url`, number `place` in the list from 0."""
    parts = urlsplit(base_url)
    if (parts.scheme, parts.hostname, parts.port or 443) == ("https", HERMES_HOST, 443):
        return HERMES_KEY_VARIABLE
    return KEY_VARIABLE if place == 0 else f"{KEY_VARIABLE}_{place + 1}"


def hold_a_key(texts: Iterable[str]) -> bool:
    """Whether one of the texts contains an API key of this process's environment."""
    variables = (KEY_VARIABLE, HERMES_KEY_VARIABLE)
    keys = [value for name, value in os.environ.items() if name.startswith(variables)]
    secrets = [key for key in keys if len(key) >= SHORTEST_SECRET]
    return any(key in text for text in texts for key in secrets)
