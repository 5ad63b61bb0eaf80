"""Which teacher a run has: an API where one is configured, the embedded model otherwise.

- `base_url`: that server, with its key from the environment if there is one; of several, the first
  that works, each with a key of its own (see `keys`);
- else the key for Hermes in the environment: Hermes-3-70B through its API;
- else the embedded teacher, which needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import HERMES_KEY_VARIABLE, key_variable
from quantum_hybrid.processes.cores import usable_cores
from quantum_hybrid.teacher.embedded import EmbeddedTeacher
from quantum_hybrid.teacher.server import Prices, TeacherServer


@dataclass(frozen=True)
class ChosenTeacher:
    """A teacher that has been decided on and not yet been asked anything."""

    description: str
    """One line for people: which model, where."""
    servers: tuple[TeacherServer, ...]
    """The API servers, the preferred one first; none for the embedded teacher."""
    longest_answer: int = field(default=64)
    """In tokens; the embedded teacher reserves room for it."""

    @property
    def is_embedded(self) -> bool:
        """Whether the teacher computes on this machine, beside the training."""
        return not self.servers

    @contextmanager
    def start(self) -> Iterator[tuple[TeacherServer, ...]]:
        """The servers to ask; the embedded one runs as long as the context is open."""
        if self.servers:
            yield self.servers
            return
        with EmbeddedTeacher(
            n_threads=compute_threads(self), longest_answer=self.longest_answer
        ) as embedded:
            yield (embedded.server,)


def choose_teacher(
    config: ServerConfig, environment: Mapping[str, str], longest_answer: int
) -> ChosenTeacher:
    """The teacher that the settings and the environment ask for."""
    if config.base_url is None and not environment.get(HERMES_KEY_VARIABLE):
        for name in ("model_name", "max_cost", "input_price", "output_price"):
            if (value := getattr(config, name)) is not None:
                raise UsageError(
                    f"`{name}` {value!r}: needs {HERMES_KEY_VARIABLE} in the environment, or "
                    "`base_url`; without them the embedded teacher is used, which is free"
                )
        description = "embedded SmolLM2-135M-Instruct, on this machine"
        return ChosenTeacher(description, (), longest_answer)
    urls = config.base_urls() or [HERMES_BASE_URL]
    if len(urls) > 1 and None in config.for_each_server("model_name"):
        raise UsageError(
            f"`base_url` {config.base_url!r}: several servers need `model_name`, one "
            "for all or one each"
        )
    servers = tuple(_server(config, place, url, environment) for place, url in enumerate(urls))
    description = ", else ".join(_description(server) for server in servers)
    return ChosenTeacher(description, servers, longest_answer)


def _server(
    config: ServerConfig, place: int, base_url: str, environment: Mapping[str, str]
) -> TeacherServer:
    """One of the servers. Each has a key of its own, so that none is shown to another."""
    model = config.for_each_server("model_name")[place]
    input_price = config.for_each_server("input_price")[place]
    output_price = config.for_each_server("output_price")[place]
    variable = key_variable(base_url, place)
    return TeacherServer(
        base_url=base_url,
        model=model or (HERMES_MODEL if config.base_url is None else ""),
        api_key=environment.get(variable) or None,
        identity=base_url,
        max_concurrent_requests=config.num_max_requests_at_once,
        timeout_s=config.timeout,
        prices=(
            Prices(float(input_price), float(output_price))
            if input_price is not None and output_price is not None
            else None
        ),
        key_variable=variable,
        allow_clear_text=config.allow_clear_text,
    )


def _description(server: TeacherServer) -> str:
    host = urlsplit(server.base_url).netloc
    secrecy = f"key from {server.key_variable}" if server.api_key else "no key"
    return f"{server.model_shown or 'the only model'} at {host} ({secrecy})"


def compute_threads(teacher: ChosenTeacher) -> int:
    """Threads for training; the embedded teacher takes as many beside it.

    It depends on the teacher and the cores this process may use only, because another number of
    threads rounds sums differently and the same seed must give the same numbers.
    """
    cores = usable_cores()
    return max(1, cores // 2) if teacher.is_embedded else cores
