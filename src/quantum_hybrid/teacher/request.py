"""One requested answer: everything that determines it, and its key in the cache.

    key = SHA-256 of (record version, server, model, prompt text, sampling, index), as JSON

The sampling includes the seed. The prompt's id is not included, because the same text under another
id is the same request. The API key is not included, because the answer does not depend on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from quantum_hybrid.text.records import RECORD_VERSION, Sampling


@dataclass(frozen=True)
class AnswerRequest:
    """A request for one answer."""

    server_identity: str
    model: str
    prompt_text: str
    sampling: Sampling
    index: int
    """Index of the answer among those to this prompt, from 0."""

    @cached_property
    def canonical(self) -> bytes:
        """The request as canonical JSON: equal requests give equal bytes."""
        parts = {
            "record_version": RECORD_VERSION,
            "server_identity": self.server_identity,
            "model": self.model,
            "prompt_text": self.prompt_text,
            "max_tokens": int(self.sampling.max_tokens),
            "temperature": float(self.sampling.temperature),
            "seed": int(self.sampling.seed),
            "top_logprobs": int(self.sampling.top_logprobs),
            "index": int(self.index),
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode("ascii")

    @cached_property
    def key(self) -> str:
        """Key in the cache: the SHA-256 of `canonical` as 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical).hexdigest()
