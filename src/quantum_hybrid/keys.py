"""API keys: which environment variable holds the key of which server. They are read nowhere else.

    ATROPOS_HERMES_API_KEY    https://inference-api.nousresearch.com, and no other server
    OPENAI_API_KEY            any other server that is the first, or the only one, in `base_url`
    OPENAI_API_KEY_2, ...     any other that is the second, ...

So a key reaches the server that it was made for: an address may come from somebody else's file.
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
"""A key shorter than this, such as `none` or `EMPTY`, is a placeholder and stands in any text."""


def key_variable(base_url: str, place: int) -> str:
    """The variable of the server at this address, whose place among all is counted from 0."""
    parts = urlsplit(base_url)
    if (parts.scheme, parts.hostname, parts.port or 443) == ("https", HERMES_HOST, 443):
        return HERMES_KEY_VARIABLE
    return KEY_VARIABLE if place == 0 else f"{KEY_VARIABLE}_{place + 1}"


def hold_a_key(texts: Iterable[str]) -> bool:
    """Whether a key of this process's environment stands in one of the texts."""
    variables = (KEY_VARIABLE, HERMES_KEY_VARIABLE)
    keys = [value for name, value in os.environ.items() if name.startswith(variables)]
    secrets = [key for key in keys if len(key) >= SHORTEST_SECRET]
    return any(key in text for text in texts for key in secrets)
