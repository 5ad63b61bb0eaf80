"""Two real servers on loopback: the embedded teacher, and one that misbehaves as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from quantum_hybrid.teacher import AnswerCache, EmbeddedTeacher, TeacherServer

KEY = "sk-test-0123456789abcdef"


def completion(*texts: Any, **fields: Any) -> dict[str, Any]:
    """A well-formed reply with these answers; `fields` are put into every choice."""
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": "stop", **fields}
        for i, text in enumerate(texts)
    ]
    return {"model": "reported", "choices": choices, "usage": {"completion_tokens": 7}}


class ScriptedServer:
    """Answers each request with the next step of `script`, and well once it is used up.

    A step is a status, or a reply's body (dict or text), or (status, headers, body).
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.completion = completion
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def server(self, **changes: Any) -> TeacherServer:
        """How a client reaches it."""
        fields: dict[str, Any] = {
            "base_url": self.base_url,
            "model": "m",
            "api_key": KEY,
            "identity": "scripted",
            "max_retries": 2,
        }
        return TeacherServer(**(fields | changes))

    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far."""
        return [request["body"] for request in self.requests if request["body"]]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _step(self, request: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        self.requests.append(request)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, tuple):
                return step
            if isinstance(step, int):
                return step, {}, {"error": {"message": f"scripted {step}"}}
            return 200, {}, step
        if request["body"] is None:
            return 200, {}, {"data": [{"id": "m"}, {"id": "other"}]}
        seed = request["body"]["seed"]
        return 200, {}, completion(*(f"text {seed + i}" for i in range(request["body"]["n"])))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, body: Any) -> None:
                request = {
                    "path": self.path,
                    "headers": {k.title(): v for k, v in self.headers.items()},
                    "body": body,
                }
                status, headers, reply = owner._step(request)
                text = reply if isinstance(reply, str) else json.dumps(reply)
                self.send_response(status)
                fields = {"Content-Type": "application/json", "Content-Length": str(len(text))}
                for name, value in (fields | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[Callable[..., AnswerCache]]:
    """Opens caches in the test's folder, and closes them after the test."""
    opened: list[AnswerCache] = []

    def open_one(name: str = "answers.sqlite") -> AnswerCache:
        opened.append(AnswerCache(tmp_path / name))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedTeacher]:
    with EmbeddedTeacher() as teacher:
        yield teacher
