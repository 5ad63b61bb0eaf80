"""The choice of a run's teacher, from the settings and the environment.

1. If `base_url` is set: that server, with its key from the environment if there is one. Of several
   servers the first that works is used; each has a key of its own (`keys`).
2. Otherwise, if the environment holds the Hermes key: Hermes-3-70B through its API.
3. Otherwise the embedded teacher, which needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quantum_hybrid.config import HERMES_BASE_URL, HERMES_MODEL, ServerConfig
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import HERMES_KEY_VARIABLE, key_variable
from quantum_hybrid.processes.cores import half_of_the_cores, usable_cores
from quantum_hybrid.teacher.embedded import EmbeddedTeacher
from quantum_hybrid.teacher.server import Prices, TeacherServer


@dataclass(frozen=True)
class ChosenTeacher:
    """A teacher before any request has been sent to it."""

    description: str
    """One line that names the model and where it runs."""
    servers: tuple[TeacherServer, ...]
    """The API servers in order of preference; empty for the embedded teacher."""
    longest_answer: int = field(default=64)
    """Maximum length of an answer in tokens, for the context size of the embedded teacher."""

    @property
    def is_embedded(self) -> bool:
        """Whether the teacher runs on this machine, in parallel to the training."""
        return not self.servers

    @contextmanager
    def start(self) -> Iterator[tuple[TeacherServer, ...]]:
        """The servers to use; the embedded one runs while the context is open."""
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
    """The teacher of these settings and this environment.

    Raises `UsageError` for a model or a price without a server, for several servers without a
    `model_name`, and for a key that would be sent in clear text.
    """
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
    """Server number `place`. Each server has a key of its own, which no other server receives."""
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
    """Number of threads for training; the embedded teacher uses the same number in addition.

    The result depends only on the teacher and on the cores that this process may use. Another
    number of threads would round sums differently and change the figures of a seed.
    """
    return half_of_the_cores() if teacher.is_embedded else usable_cores()
