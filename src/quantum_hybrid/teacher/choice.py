"""Which teacher a run has: an API where one is configured, the embedded model otherwise.

- `--openai.base_url`: that server, with the key from the environment if there is one;
- else a key in the environment: Hermes-3-70B through its API;
- else the embedded teacher, which needs no network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, KEY_VARIABLE, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.teacher.client import TeacherServer
from quantum_hybrid.teacher.embedded import EmbeddedTeacher


@dataclass(frozen=True)
class ChosenTeacher:
    """A teacher that has been decided on and not yet been asked anything."""

    description: str
    """One line for people: which model, where."""
    server: TeacherServer | None
    """The API server; None for the embedded teacher."""
    longest_answer: int = field(default=64)
    """In tokens; the embedded teacher reserves room for it."""

    @property
    def is_embedded(self) -> bool:
        """Whether the teacher computes on this machine, beside the training."""
        return self.server is None

    @contextmanager
    def start(self) -> Iterator[TeacherServer]:
        """The server to ask; the embedded one runs as long as the context is open."""
        if self.server is not None:
            yield self.server
            return
        with EmbeddedTeacher(
            n_threads=compute_threads(self), longest_answer=self.longest_answer
        ) as embedded:
            yield embedded.server


def choose_teacher(
    config: ServerConfig, environment: Mapping[str, str], longest_answer: int
) -> ChosenTeacher:
    """The teacher that the flags and the environment ask for."""
    key = environment.get(KEY_VARIABLE) or None
    if config.base_url is None and key is None:
        if config.model_name is not None:
            raise UsageError(
                f"--openai.model_name {config.model_name!r}: needs {KEY_VARIABLE} in the "
                "environment, or --openai.base_url; without them the embedded teacher is used"
            )
        description = "embedded SmolLM2-135M-Instruct, on this machine"
        return ChosenTeacher(description, None, longest_answer)
    base_url = (config.base_url or HERMES_BASE_URL).rstrip("/")
    model = config.model_name or (HERMES_MODEL if config.base_url is None else "")
    server = TeacherServer(
        base_url=base_url,
        model=model,
        api_key=key,
        identity=base_url,
        max_concurrent_requests=config.num_max_requests_at_once,
        timeout_s=config.timeout,
    )
    host = urlsplit(base_url).netloc
    secrecy = f"key from {KEY_VARIABLE}" if key else "no key"
    name = model or "the only model"
    return ChosenTeacher(f"{name} at {host} ({secrecy})", server, longest_answer)


def compute_threads(teacher: ChosenTeacher) -> int:
    """Threads for training; the embedded teacher takes as many beside it.

    It depends on the teacher and the machine only, because another number of threads rounds
    sums differently and the same seed must give the same numbers.
    """
    cores = os.cpu_count() or 1
    return max(1, cores // 2) if teacher.is_embedded else cores
