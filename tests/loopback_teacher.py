"""A teacher on loopback whose answers depend on the request only; a test helper."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from quantum_hybrid.text.prompts import split_of


class LoopbackTeacher:
    """An OpenAI-compatible server; some of its answers repeat those to held-out prompts."""

    def __init__(self) -> None:
        self.asked = 0
        self.on_request: Callable[[int], None] = lambda number: None
        """Called before the so many-th request is answered."""
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.asked += 1
            number = self.asked
        self.on_request(number)
        prompt = request["messages"][0]["content"]
        texts = [_answer(prompt, request["seed"] + i) for i in range(request["n"])]
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
        return {"model": "m", "choices": choices, "usage": {"completion_tokens": 5}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send({"data": [{"id": "m"}]})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._send(owner._reply(json.loads(self.rfile.read(length))))

            def _send(self, reply: dict[str, Any]) -> None:
                text = json.dumps(reply).encode()
                with suppress(ConnectionError):  # who asked may be dead by now
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _answer(prompt: str, seed: int) -> str:
    digest = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
    if digest[0] % (2 if split_of(prompt) == "test" else 8) == 0:
        return "Yes."
    return " ".join(f"{'abcdefgh'[byte % 8]}{byte}" for byte in digest[1:4])
