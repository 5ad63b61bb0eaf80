"""The embedded teacher: llama.cpp's server on loopback, inside this process.

    with EmbeddedTeacher(n_threads=1) as embedded:
        client = TeacherClient(embedded.server, cache)

It needs no network: the weights are a file (`embedded_weights`). The server runs as threads of this
process, so no server process is left over when a run ends, even by kill -9. It listens on a free
port of 127.0.0.1 and requires a random key, so no other user of the machine can use it.

Answers are drawn from the model's own distribution: llama.cpp's default truncations are switched
off. Its prompt cache is off too, because it takes up to 8 GiB and makes an answer depend on earlier
requests.
"""

from __future__ import annotations

import http.client
import importlib
import os
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from quantum_hybrid.embedded_weights import embedded_gguf, sha256_of
from quantum_hybrid.errors import TeacherError, TeacherUnreachable, UsageError
from quantum_hybrid.teacher.server import TeacherServer

READY_WITHIN_S = 60.0
"""Longest wait for the server to load the model, which takes about one second."""

_PROMPT_ROOM = 512
_SMALLEST_CONTEXT = 1024


class EmbeddedTeacher:
    """Context manager of a running server; `server` describes it while the context is open.

    Args:
        n_threads: threads of the server; more threads than free cores are far slower.
        n_parallel: number of answers written at the same time.
        longest_answer: maximum length of an answer, in tokens.

    Close the clients before leaving the context. Entering raises `UsageError` if the weights or the
    xllamacpp package are missing, `TeacherError` if the weights cannot be loaded, and
    `TeacherUnreachable` if the server does not become ready.
    """

    def __init__(
        self, n_threads: int = 1, *, n_parallel: int = 8, longest_answer: int = 64
    ) -> None:
        self.n_threads = n_threads
        self.n_parallel = n_parallel
        self.context_per_answer = max(_SMALLEST_CONTEXT, longest_answer + _PROMPT_ROOM)
        self._key = secrets.token_urlsafe(32)
        self._native: Any = None
        self._server: TeacherServer | None = None

    @property
    def server(self) -> TeacherServer:
        """The server's address and key. Raises `RuntimeError` unless the context is open."""
        if self._server is None:
            raise RuntimeError("the embedded teacher is not running; use it in a with statement")
        return self._server

    def __enter__(self) -> EmbeddedTeacher:
        path = embedded_gguf()
        identity = f"embedded:{path.name}:{sha256_of(path)[:16]}"
        self._native = _start(self._parameters(path))
        try:
            address = self._native.listening_address
            self._server = TeacherServer(
                base_url=f"{address}/v1",
                model=path.stem,
                api_key=self._key,
                identity=identity,
                max_concurrent_requests=self.n_parallel,
                timeout_s=3600.0,  # A slow machine is not an error.
                sampler_extras=(("min_p", 0.0), ("top_k", 0)),
                max_retries=2,
                grace_s=0.0,  # Its requests are free, so none is waited for on closing.
                answers_per_request=self.n_parallel,
            )
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and close its connections. It may be called twice.

        The native destructor waits for all requests while it holds the interpreter's lock. A client
        in this process could then never cancel its request, and the process would deadlock.
        Therefore all connections are closed first, after which the destructor takes at most 1 s.
        """
        native, self._native = self._native, None
        if native is None:
            return
        host, _, port = urlsplit(native.listening_address).netloc.partition(":")
        self._server = None
        _hang_up((host, int(port)))
        # `native` goes out of scope here, and its destructor stops the server.

    def _parameters(self, path: Path) -> Any:
        try:
            xllamacpp: Any = importlib.import_module("xllamacpp")
        except ImportError as error:
            raise UsageError(
                f"the embedded teacher needs the package xllamacpp ({error}): run `make setup`, "
                "or name a server of your own with `base_url`"
            ) from error
        parameters = xllamacpp.CommonParams()
        parameters.verbosity = 0
        parameters.model.path = str(path)
        parameters.model_alias = [path.stem]  # The default is the path, which differs by machine.
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self._key]
        parameters.ui = False
        parameters.n_parallel = self.n_parallel
        parameters.n_ctx = self.n_parallel * self.context_per_answer
        parameters.cpuparams.n_threads = self.n_threads
        parameters.cpuparams_batch.n_threads = self.n_threads
        parameters.cache_prompt = False
        parameters.cache_ram_mib = 0
        return parameters

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise TeacherUnreachable(
                    f"the embedded teacher was not ready after {READY_WITHIN_S:.0f} s; is another "
                    "program using all of the memory or the processor?"
                )
            # llama.cpp signals no event when the model is loaded; /health answers 503 until then.
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self.server.base_url).netloc, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _start(parameters: Any) -> Any:
    """Start the server; it stops when the returned object is deleted."""
    try:
        return importlib.import_module("xllamacpp").Server(parameters)
    except RuntimeError as error:
        raise TeacherError(
            f"the embedded teacher cannot load {parameters.model.path} ({error}); the file may be "
            "damaged: remove it, and the next run fetches it again"
        ) from error


def _hang_up(address: tuple[str, int]) -> None:
    """Shut down every connection of this process to or from the address, at either end."""
    folder = "/dev/fd"  # Linux and macOS
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            connection = socket.socket(fileno=int(name))
        except OSError:  # A file, not a socket.
            continue
        try:
            if address in (connection.getsockname(), connection.getpeername()):
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # A socket without a peer, such as the listening one.
            continue
        finally:
            connection.detach()  # The descriptor belongs to its opener and must stay open.
