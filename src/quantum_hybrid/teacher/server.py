"""One OpenAI-compatible server: address, model, key, limits and prices."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quantum_hybrid.config import check_address
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import KEY_VARIABLE, SHORTEST_SECRET
from quantum_hybrid.shown import LONGEST, shown

_LONGEST_NAME = 100
_TEMPLATE_TOKENS = 256
"""Allowance for tokens that a server adds to a prompt: chat template and system prompt."""


@dataclass(frozen=True)
class Prices:
    """A server's prices per million tokens, in any currency."""

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of these tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def most(self, prompt_text: str, n_answers: int, max_tokens: int) -> float:
        """Upper bound on a request's cost. A prompt has at most one token per byte."""
        prompt_tokens = len(prompt_text.encode("utf-8", "replace")) + _TEMPLATE_TOKENS
        return self.cost(prompt_tokens, n_answers * max_tokens)


@dataclass(frozen=True)
class TeacherServer:
    """How to send requests to a teacher.

    Raises `UsageError` for an invalid address, model or key, and for a key that would be sent over
    http:// to another machine without `allow_clear_text`.
    """

    base_url: str
    """Address up to and including /v1."""
    model: str
    """Model name. Empty stands for the server's only model, which `TeacherClient.check` finds."""
    api_key: str | None = field(repr=False)
    """API key; None sends no Authorization header."""
    identity: str
    """Name of the server in the cache's keys; it must not depend on a port that varies."""
    max_concurrent_requests: int = 8
    timeout_s: float = 120.0
    """Time limit for one reply, from the first byte sent to the last one received."""
    sampler_extras: tuple[tuple[str, float], ...] = ()
    """Request fields beyond OpenAI's, e.g. llama.cpp's (("top_k", 0), ("min_p", 0.0)). They are
    part of the cache's keys."""
    max_retries: int = 5
    first_wait_s: float = 0.5
    """Approximate wait before the first retry; it doubles for each further one."""
    grace_s: float = 30.0
    """Longest wait on closing for replies in flight, which are paid for."""
    answers_per_request: int = 8
    """Largest `n` of a request."""
    prices: Prices | None = None
    """Prices; None if unknown, and then no cost is counted."""
    key_variable: str = KEY_VARIABLE
    """Environment variable that holds the key."""
    allow_clear_text: bool = False
    """Whether the key may be sent over http:// to another machine."""

    def __post_init__(self) -> None:
        check_address(self.base_url)
        if any("\ud800" <= character <= "\udfff" for character in self.model):
            raise UsageError(f"`model_name` {self.model!r}: must be text that UTF-8 can spell")
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            raise UsageError(
                f"{self.key_variable}: the API key must be printable ASCII without spaces or line "
                "ends"
            )
        in_clear_text = self.base_url.startswith("http://") and not self.is_on_loopback
        if key is not None and in_clear_text and not self.allow_clear_text:
            raise UsageError(
                f"`base_url` {self.base_url!r}: the key in {self.key_variable} would go there in "
                "clear text; use https://, or set `allow_clear_text` to true"
            )

    def cache_identity(self) -> str:
        """The server's part of a cache key: its identity and the sampler extras."""
        return "&".join(
            [self.identity, *(f"{name}={value!r}" for name, value in self.sampler_extras)]
        )

    @property
    def is_on_loopback(self) -> bool:
        """Whether the address is a loopback address of this machine."""
        host = urlsplit(self.base_url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def repeats_key(self, text: str) -> bool:
        """Whether a server's text contains the API key."""
        key = self.api_key
        return key is not None and len(key) >= SHORTEST_SECRET and key in text

    @property
    def model_shown(self) -> str:
        """The model's name, cleaned for a message: the server may have chosen it."""
        return self.quoted(self.model, _LONGEST_NAME)

    def quoted(self, server_text: str, limit: int = LONGEST) -> str:
        """The server's text, cleaned for a message and without the API key."""
        return shown(server_text, limit, secret=self.api_key)
