"""One OpenAI-compatible server: where it is, how it wants to be asked, what it costs."""

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
"""What a server may put around a prompt: its chat template and a system prompt of its own."""


@dataclass(frozen=True)
class Prices:
    """What a server charges, per million tokens, in whatever currency."""

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What these tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def most(self, prompt_text: str, n_answers: int, max_tokens: int) -> float:
        """The most that a request can cost: no token of a prompt is shorter than a byte."""
        prompt_tokens = len(prompt_text.encode("utf-8", "replace")) + _TEMPLATE_TOKENS
        return self.cost(prompt_tokens, n_answers * max_tokens)


@dataclass(frozen=True)
class TeacherServer:
    """Where a teacher is and how it wants to be asked."""

    base_url: str
    """Address up to and including /v1."""
    model: str
    """Empty: the only model the server offers, settled by `TeacherClient.check`."""
    api_key: str | None = field(repr=False)
    """None: no Authorization header is sent."""
    identity: str
    """Names whose answers these are in the cache; the same for the same model at another port."""
    max_concurrent_requests: int = 8
    timeout_s: float = 120.0
    """Longest wait for one reply, from the first byte sent to the last one received."""
    sampler_extras: tuple[tuple[str, float], ...] = ()
    """Fields beyond OpenAI's, e.g. llama.cpp's (("top_k", 0), ("min_p", 0.0)). They are part of
    what an answer is stored under."""
    max_retries: int = 5
    first_wait_s: float = 0.5
    """About how long to wait before the first retry; twice as long before each further one."""
    grace_s: float = 30.0
    """Longest wait, when no more is asked, for replies that are under way: they are paid for."""
    answers_per_request: int = 8
    """Largest `n` to ask for."""
    prices: Prices | None = None
    """None: nothing is known of its prices, and no cost is counted."""
    key_variable: str = KEY_VARIABLE
    """Environment variable that its key is read from."""
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
        """What the cache knows the server by: its identity and the extras it is asked with."""
        return "&".join(
            [self.identity, *(f"{name}={value!r}" for name, value in self.sampler_extras)]
        )

    @property
    def is_on_loopback(self) -> bool:
        """Whether it runs on this machine, where no proxy is needed."""
        host = urlsplit(self.base_url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def repeats_key(self, text: str) -> bool:
        """Whether a server's text holds the key that was sent to it."""
        key = self.api_key
        return key is not None and len(key) >= SHORTEST_SECRET and key in text

    @property
    def model_shown(self) -> str:
        """Its model's name in a message: it may be a name that the server chose."""
        return self.quoted(self.model, _LONGEST_NAME)

    def quoted(self, server_text: str, limit: int = LONGEST) -> str:
        """A server's words in a message, without its key."""
        return shown(server_text, limit, secret=self.api_key)
