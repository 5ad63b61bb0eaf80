"""One HTTP exchange with a server: from a JSON body to the reply's text, or a `Fault`.

Time and size of the reply are limited while it arrives, so an endless reply takes neither hours nor
memory. Requests ask for no compression, and a compressed reply is a fault, because a small one may
expand to gigabytes. There are no retries here. Redirects are not followed, because the key must go
to no other address than the configured one.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from http.cookiejar import CookieJar
from typing import Any

import httpx2

from quantum_hybrid.teacher.faults import Fault, status_fault
from quantum_hybrid.teacher.replies import ReplyError, parse_object
from quantum_hybrid.teacher.retry import LONGEST_RETRY_AFTER_S, parse_retry_after
from quantum_hybrid.teacher.server import TeacherServer

CONNECT_TIMEOUT_S = 10.0
_GZIP_MAGIC = b"\x1f\x8b"
_ERROR_BYTES = 16 * 1024
"""Bytes of an error page that are read: more than a message shows."""


class Exchange:
    """The connections to one server. They are kept open and reused."""

    def __init__(self, server: TeacherServer) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "quantum-hybrid-lm"}
        if server.api_key is not None:
            headers["Authorization"] = f"Bearer {server.api_key}"
        self._server = server
        self._http = httpx2.AsyncClient(
            headers=headers,
            cookies=_NoCookies(),
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            follow_redirects=False,
            trust_env=not server.is_on_loopback,  # A proxy cannot reach this machine's loopback.
        )

    async def get(self, path: str, *, timeout_s: float, max_bytes: int) -> str:
        """The text of the reply to GET. Raises `Fault`."""
        return await self._send("GET", path, None, timeout_s, max_bytes)

    async def post(self, path: str, body: Any, *, timeout_s: float, max_bytes: int) -> str:
        """The text of the reply to POST with a JSON body. Raises `Fault`."""
        return await self._send("POST", path, body, timeout_s, max_bytes)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(
        self, method: str, path: str, body: Any, timeout_s: float, max_bytes: int
    ) -> str:
        url = f"{self._server.base_url}{path}"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(method, url, json=body) as reply,
            ):
                if reply.status_code != 200:
                    raise await _status_fault(reply)
                return await _text(reply, max_bytes)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            fault = Fault("connection", "", str(error) or type(error).__name__)
        except (TimeoutError, httpx2.TimeoutException):
            fault = Fault("timeout", "no reply in time", may_be_charged=True)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            reason = str(error) or type(error).__name__
            fault = Fault("connection", "", reason, may_be_charged=True)
        # Raised outside the handlers: the library's exception holds the request and thus the key.
        raise fault


class _NoCookies(CookieJar):
    """Ignores all cookies: Python's parser prints a stack trace for a malformed one."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Keep no cookie."""


async def _text(reply: httpx2.Response, max_bytes: int) -> str:
    content = bytearray()
    async for part in reply.aiter_raw():
        content += part
        if len(content) > max_bytes:
            shown = content[:200].decode("utf-8", "replace")
            what = f"its reply is longer than {max_bytes} bytes: "
            raise Fault("oversized", what, shown, may_be_charged=True)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if coding := _compression(reply, content):
            what = "its reply is compressed, which was not asked for: "
            raise Fault("compressed", what, coding, may_be_charged=True) from error
        shown = content[:200].decode("utf-8", "replace")
        raise Fault("malformed", "its reply is not UTF-8: ", shown, may_be_charged=True) from error


def _compression(reply: httpx2.Response, content: bytes | bytearray) -> str:
    """The coding of a body that is not UTF-8; empty for one that is not compressed."""
    named = reply.headers.get("Content-Encoding", "").strip()
    if named.lower() not in ("", "identity"):
        return named
    return "gzip" if content.startswith(_GZIP_MAGIC) else ""


async def _status_fault(reply: httpx2.Response) -> Fault:
    content = bytearray()
    async for part in reply.aiter_raw():
        content += part
        if len(content) > _ERROR_BYTES:
            break
    try:
        words = _server_message(content[:_ERROR_BYTES].decode("utf-8"))
    except UnicodeDecodeError:
        if coding := _compression(reply, content):
            words = f"(compressed: {coding})"
        else:
            words = _server_message(content[:_ERROR_BYTES].decode("utf-8", "replace"))
    asked = reply.headers.get("Retry-After")
    seconds = parse_retry_after(asked, datetime.now(UTC))
    if asked is not None and (seconds is None or seconds > LONGEST_RETRY_AFTER_S):
        longest = f"{LONGEST_RETRY_AFTER_S:.0f} s"
        words = f"(Retry-After {asked!r} is not a wait of at most {longest}) {words}"
    return status_fault(reply.status_code, words, seconds, reply.headers.get("Location", ""))


def _server_message(body: str) -> str:
    """The message of the server's error object, or the whole body if there is none."""
    try:
        error = parse_object(body).get("error")
    except ReplyError:
        return body
    message = error.get("message") if isinstance(error, dict) else error
    if isinstance(message, str) and message.strip():
        return message
    return json.dumps(error) if error is not None else body
