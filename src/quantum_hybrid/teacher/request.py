"""What is asked for: everything that determines one answer, and the address it is kept under.

    key = sha256 of (record version, server, model, prompt text, sampling, index), as JSON

The seed is the sampling's. The prompt's id is not part of it: the same text under another name is
the same request. Nor is the key: whoever pays, the answer is the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from quantum_hybrid.text.records import RECORD_VERSION, Sampling


@dataclass(frozen=True)
class AnswerRequest:
    """One answer that is wanted."""

    server_identity: str
    model: str
    prompt_text: str
    sampling: Sampling
    index: int
    """Which of the answers to this prompt it is, counted from 0."""

    @cached_property
    def canonical(self) -> bytes:
        """The request as JSON, the same for the same request."""
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
        """Its content address: 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical).hexdigest()
