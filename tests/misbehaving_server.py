"""A real HTTP server on loopback that misbehaves by a seeded script, and keeps a ledger.

Each chat request gets a fault drawn from `FAULTS`, or a valid reply. Every text is unique and names
its prompt and seed, so that any stored answer can be looked up: `delivered` holds all answers that
were sent in a complete, valid reply.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

KEY = "sk-faults-0123456789abcdef"
MODEL = "m"
ACTING = "\x1b[31m\x1b]0;title\x07\x9b2J\r\x08\x7f\x00\x85\u2028\u202e\u2066\u200f"
"""Colours, a window's title, a cleared screen, ends of lines, and letters from right to left."""
LONG_TEXT = 70_000
HUGE_REPLY = 5_000_000


class Reply:
    """The bytes to send: status line, headers and body, or something malformed."""

    def __init__(self, body: Any = "", status: int = 200, **headers: str) -> None:
        self.body = body if isinstance(body, bytes) else _json(body).encode("utf-8")
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def bytes(self) -> bytes:
        fields = {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
        lines = [f"{name}: {value}" for name, value in (fields | self.headers).items()]
        head = "\r\n".join([f"HTTP/1.1 {self.status} Scripted", *lines, "", ""])
        return head.encode("ascii") + self.body


def _json(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


class MisbehavingServer:
    """Use it in a `with` statement; `injected` counts its faults by their names in `FAULTS`."""

    def __init__(self, seed: int, fault_share: float) -> None:
        self.requests = 0
        """Chat requests so far."""
        self.connections = 0
        self.authorizations: set[str] = set()
        """What the keys were that came, in small letters."""
        self.models = [MODEL, "other"]
        self.injected: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        """What the client should have counted, by its own names."""
        self.delivered: dict[str, tuple[str, int]] = {}
        """Text -> (prompt, seed), for every answer in a whole and valid reply."""
        self._script = random.Random(seed)
        self._fault_share = fault_share
        self._forced: list[str] = []
        self._held = threading.Event()
        self._hold_after: float = float("inf")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()
        self.base_url = ""

    def force(self, faults: list[str]) -> None:
        """Answer the next requests with these faults."""
        self._forced += faults

    def hold_after(self, n_requests: int) -> None:
        """Hold all requests after the first `n_requests` until `release`."""
        self._hold_after = n_requests

    def wait_until_held(self) -> None:
        """Wait until a request is held."""
        self._held.wait()

    def release(self) -> None:
        """Answer held and later requests."""
        self._loop.call_soon_threadsafe(self._released.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._released = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.connections += 1
        try:
            while await self._one_request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").lower()
        lines = head.splitlines()
        self.authorizations |= {
            line.partition(": ")[2] for line in lines if line.startswith("authorization")
        }
        if not head.startswith("post"):
            writer.write(Reply({"data": [{"id": name} for name in self.models]}).bytes())
            return True
        length = int(head.partition("content-length:")[2].split()[0])
        request = json.loads(await reader.readexactly(length))
        self.requests += 1
        if self.requests > self._hold_after:
            self._held.set()
            await self._released.wait()
        if self._forced or self._script.random() < self._fault_share:
            return await self._send(writer, self._next_fault(request))
        return await self._send(writer, self._good(request))

    def _next_fault(self, request: dict[str, Any]) -> Any:
        possible = [name for name in FAULTS if self.injected[name] < AT_MOST.get(name, 10**9)]
        if request["n"] == 1:
            possible.remove("one answer fewer")
        name = self._forced.pop(0) if self._forced else self._script.choice(possible)
        self.injected[name] += 1
        fault, counted = FAULTS[name]
        self.expected.update(counted)
        return fault(self, request)

    async def _send(self, writer: asyncio.StreamWriter, outcome: Reply | Callable) -> bool:
        if isinstance(outcome, Reply):
            writer.write(outcome.bytes())
            await writer.drain()
            return True
        await outcome(writer)
        return False

    def texts(self, request: dict[str, Any], count: int | None = None) -> list[str]:
        """Texts for one request; each is unique."""
        number = self.requests
        n = request["n"] if count is None else count
        prompt = request["messages"][0]["content"]
        return [f"{prompt} | seed {request['seed'] + i} | reply {number}.{i}" for i in range(n)]

    def _good(self, request: dict[str, Any]) -> Reply:
        return self.completion(request, [choice(i, t) for i, t in enumerate(self.texts(request))])

    def completion(
        self, request: dict[str, Any], choices: list[dict[str, Any]], **changes: Any
    ) -> Reply:
        """A complete reply; its choices with requested indices are recorded in the ledger."""
        for entry in choices:
            text = entry["message"]["content"]
            if text and entry["index"] < request["n"]:
                seed = request["seed"] + entry["index"]
                self.delivered[text] = (request["messages"][0]["content"], seed)
        usage = {"prompt_tokens": 5, "completion_tokens": 4 * len(choices)}
        body = {"model": MODEL, "choices": choices, "usage": usage} | changes
        return Reply({name: value for name, value in body.items() if value is not None})


def choice(index: int, text: str | None, reason: str = "stop") -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": reason}


Fault = Callable[[MisbehavingServer, dict[str, Any]], Any]


def _status(status: int, **headers: str) -> Fault:
    return lambda server, request: Reply({"error": {"message": "scripted"}}, status, **headers)


def _body(body: Any) -> Fault:
    return lambda server, request: Reply(body)


def _compressed(**headers: str) -> Fault:
    """A whole and valid reply that nobody can read as it is: it stays out of the ledger."""

    def fault(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
        choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
        body = _json({"model": MODEL, "choices": choices}).encode("utf-8")
        return Reply(gzip.compress(body), 200, **headers)

    return fault


def _last_choice(change: Callable[[dict[str, Any]], None]) -> Fault:
    """A good reply whose last choice is changed."""

    def fault(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
        choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
        change(choices[-1])
        return server.completion(request, choices)

    return fault


def _content(text: str | int | None) -> Fault:
    return _last_choice(lambda entry: entry["message"].update(content=text))


def _good_with(**changes: Any) -> Fault:
    def fault(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
        choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
        return server.completion(request, choices, **changes)

    return fault


def _of_another_model(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    """A complete and valid reply that must not be accepted, so it stays out of the ledger."""
    choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
    return Reply({"model": "other", "choices": choices})


def _with_the_key(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    choices = [choice(i, f"{text} {KEY}") for i, text in enumerate(server.texts(request))]
    return Reply({"model": MODEL, "choices": choices})


def _without_the_last(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    texts = server.texts(request)
    kept = [choice(i, text) for i, text in enumerate(texts)][:-1]
    return server.completion(request, kept)


def _one_too_many(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    n = request["n"] + 1
    return server.completion(
        request, [choice(i, text) for i, text in enumerate(server.texts(request, n))]
    )


def _twice_the_same_index(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
    reply = server.completion(request, choices)
    doubled = [*choices, choice(0, "never to be seen: the second of an index")]
    body = json.loads(reply.body) | {"choices": doubled}
    return Reply(body)


def _backwards(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    choices = [choice(i, text) for i, text in enumerate(server.texts(request))]
    return server.completion(request, choices[::-1])


def _cut(server: MisbehavingServer, request: dict[str, Any]) -> Reply:
    """Valid HTTP with half of the JSON as its body."""
    body = _json({"model": MODEL, "choices": [choice(0, text) for text in server.texts(request)]})
    return Reply(body[: len(body) // 2])


def _raw(*parts: bytes) -> Fault:
    """Send these bytes, then close the connection."""

    async def send(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return lambda server, request: send


def _reset(server: MisbehavingServer, request: dict[str, Any]) -> Callable:
    async def send(writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)  # the kernel sends RST instead of FIN
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return send


def _silence(server: MisbehavingServer, request: dict[str, Any]) -> Callable:
    async def send(writer: asyncio.StreamWriter) -> None:
        await server._stop.wait()

    return send


def _drip(server: MisbehavingServer, request: dict[str, Any]) -> Callable:
    """Send single bytes for ever: every read succeeds, but the reply never ends."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not server._stop.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    return send


_HEAD = b"HTTP/1.1 200 OK\r\n"
FAULTS: dict[str, tuple[Fault, dict[str, int]]] = {
    "429, Retry-After: 0": (_status(429, Retry_After="0"), {"rate_limited": 1}),
    "429, Retry-After: a past date": (
        _status(429, Retry_After="Tue, 01 Jan 2019 00:00:00 GMT"),
        {"rate_limited": 1},
    ),
    "429, Retry-After: a date of no calendar": (
        _status(429, Retry_After="Mon, 01 Jan 99999999999 00:00:00 GMT"),
        {"rate_limited": 1},
    ),
    "429, nonsense in Retry-After": (_status(429, Retry_After="later"), {"rate_limited": 1}),
    "500": (_status(500), {"server_error": 1}),
    "502 with a page": (
        lambda server, request: Reply("<html>Bad gateway</html>", 502),
        {"server_error": 1},
    ),
    "503, Retry-After: 0": (_status(503, Retry_After="0"), {"server_error": 1}),
    "504": (_status(504), {"server_error": 1}),
    "529": (_status(529), {"server_error": 1}),
    "408": (_status(408), {"timeout": 1}),
    "hangs up before the reply": (_raw(), {"connection": 1}),
    "reset": (_reset, {"connection": 1}),
    "hangs up within the headers": (_raw(_HEAD + b"Content-Le"), {"connection": 1}),
    "hangs up within the body": (
        _raw(_HEAD + b'Content-Length: 999\r\n\r\n{"choices": ['),
        {"connection": 1},
    ),
    "hangs up within a chunk": (
        _raw(_HEAD + b'Transfer-Encoding: chunked\r\n\r\nff\r\n{"choices"'),
        {"connection": 1},
    ),
    "not HTTP": (_raw(b"SSH-2.0-OpenSSH_9.2\r\n"), {"connection": 1}),
    "silence": (_silence, {"timeout": 1}),
    "a byte now and then": (_drip, {"timeout": 1}),
    "JSON cut in two": (_cut, {"malformed": 1}),
    "no body": (_body(""), {"malformed": 1}),
    "a page": (_body("<html>Sign in</html>"), {"malformed": 1}),
    "null": (_body("null"), {"malformed": 1}),
    "error with status 200": (_body({"error": {"message": "overloaded"}}), {"malformed": 1}),
    "choices of another type": (_body({"choices": "none"}), {"malformed": 1}),
    "deeply nested": (_body("[" * 50_000), {"malformed": 1}),
    "a number of 5000 digits": (_body('{"choices": ' + "9" * 5000 + "}"), {"malformed": 1}),
    "not UTF-8": (_body(b'{"choices": "\xff\xfe"}'), {"malformed": 1}),
    "compressed": (_compressed(Content_Encoding="gzip"), {"compressed": 1}),
    "compressed without saying so": (_compressed(), {"compressed": 1}),
    "no choices": (_body({"model": MODEL, "choices": []}), {"no_choice": 1, "no_usage": 1}),
    "endless reply": (_body("[" + " " * HUGE_REPLY + "]"), {"oversized": 1}),
    "endless answer": (_content("x" * LONG_TEXT), {"oversized": 1}),
    "null answer": (_content(None), {"empty": 1}),
    "blank answer": (_content(" \n\t"), {"empty": 1}),
    "number for an answer": (_content(7), {"not_text": 1}),
    "withheld answer": (
        _last_choice(lambda entry: entry.update(choice(entry["index"], "", "content_filter"))),
        {"content_filter": 1},
    ),
    "cut at its length": (_last_choice(lambda entry: entry.update(finish_reason="length")), {}),
    "one answer fewer": (_without_the_last, {"missing": 1}),
    "one answer more": (_one_too_many, {"surplus": 1}),
    "an index twice": (_twice_the_same_index, {"surplus": 1}),
    "backwards": (_backwards, {}),
    "another model": (_of_another_model, {"wrong_model": 1, "no_usage": 1}),
    "the key in an answer": (_with_the_key, {"key_repeated": 1, "no_usage": 1}),
    "no usage": (_good_with(usage=None), {"no_usage": 1}),
    "nonsense usage": (
        _good_with(usage={"prompt_tokens": "many", "completion_tokens": -3}),
        {"no_usage": 1},
    ),
    "no model": (_good_with(model=None), {}),
    "unknown fields": (_good_with(service_tier="x", choices_meta=[1, 2, {"n": None}]), {}),
}
"""Name -> what is sent, and what the client should count for it."""

AT_MOST = {"silence": 1, "a byte now and then": 1}
"""Each costs the client a whole time-out, which a busy machine needs for its slowest reply."""
