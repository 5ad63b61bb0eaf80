"""A real server on loopback that misbehaves by a script, and a client for it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from quantum_hybrid.teacher import AnswerCache, TeacherClient, TeacherServer
from quantum_hybrid.text.records import Prompt, Sampling

KEY = "sk-test-0123456789abcdef"
PROMPT = Prompt("p1", "test", "Say something.")
SAMPLING = Sampling(max_tokens=8, seed=100)
T = TypeVar("T")


def completion(*texts: Any, **fields: Any) -> dict[str, Any]:
    """A well-formed reply with these answers; `fields` are put into every choice."""
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": "stop", **fields}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 7}
    return {"model": "reported", "choices": choices, "usage": usage}


class ScriptedServer:
    """Answers each request with the next step of `script`, and validly after the last step.

    A step is a status, or a reply's body (dict or text), or (status, headers, body).
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.completion = completion
        self._arrived, self._release = threading.Event(), threading.Event()
        self._release.set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def server(self, **changes: Any) -> TeacherServer:
        """The server's description for a client."""
        fields: dict[str, Any] = {
            "base_url": self.base_url,
            "model": "m",
            "api_key": KEY,
            "identity": "scripted",
            "max_retries": 2,
            "first_wait_s": 0.001,
        }
        return TeacherServer(**(fields | changes))

    def hold(self) -> tuple[threading.Event, threading.Event]:
        """Two events: a request has arrived; replies may be sent, which wait for it."""
        self._arrived, self._release = threading.Event(), threading.Event()
        return self._arrived, self._release

    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far."""
        return [request["body"] for request in self.requests if request["body"]]

    def close(self) -> None:
        self._release.set()
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
        return 200, {}, self.completion(*(f"text {seed + i}" for i in range(request["body"]["n"])))

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
                owner._arrived.set()
                owner._release.wait()
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


def use(
    server: TeacherServer,
    cache: AnswerCache,
    work: Callable[[TeacherClient], Coroutine[Any, Any, T]],
    **options: Any,
) -> T:
    """Do the work with a client that is closed afterwards."""

    async def main() -> T:
        client = TeacherClient(server, cache, **options)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(main())


def texts(server, cache, count=4, first=0, sampling=SAMPLING) -> list[str]:
    answers = use(server, cache, lambda c: c.answers(PROMPT, first, count, sampling))
    assert [answer.index for answer in answers] == list(range(first, first + count))
    return [answer.text for answer in answers]
