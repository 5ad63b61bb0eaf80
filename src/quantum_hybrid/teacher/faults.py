"""The kinds of faults of a request, whether each is retried, and the error after the last try.

    kind            what happened                                        retried
    connection      refused, reset, or broken before the reply's end     yes
    timeout         no complete reply in time, or HTTP 408               yes
    rate_limited    HTTP 429                                             yes, after Retry-After
    server_error    HTTP 5xx, 409 or 425: a temporary state              yes, after Retry-After
    malformed       HTTP 200, but not a chat completion (cut JSON, ...)  yes
    compressed      HTTP 200, but gzip or another coding not asked for   yes
    no_choice       a chat completion without any answer                 yes
    oversized       a reply larger than any valid one                    yes
    wrong_model     the reply names another model than requested         yes
    key_repeated    the reply contains the API key                       yes
    key_refused     HTTP 401, 402, 403: no key, no credit, no access     no
    refused         any other HTTP status                                no

These are counted once per request. The following are counted in replies that are otherwise used;
missing answers are requested again:

    empty           an answer without text, or of white space only
    not_text        an answer that is a number, a list or another JSON value in place of a string
    content_filter  an answer that the server withheld
    oversized       an answer longer than `replies.MAX_TEXT_BYTES`
    missing         fewer choices than requested
    surplus         more choices than requested, or two with the same index
    no_usage        a reply without its number of tokens
    nan_logprobs    an answer with a log-probability that is NaN or infinite; its text is used,
                    its log-probabilities are not
    corrupt_row     a cached answer that fails its checksum
"""

from __future__ import annotations

from typing import Literal

from quantum_hybrid.errors import TeacherError, TeacherRefused, TeacherUnreachable
from quantum_hybrid.teacher.server import TeacherServer

RequestFault = Literal[
    "connection",
    "timeout",
    "rate_limited",
    "server_error",
    "malformed",
    "compressed",
    "no_choice",
    "oversized",
    "wrong_model",
    "key_repeated",
    "key_refused",
    "refused",
]
FINAL: tuple[RequestFault, ...] = ("key_refused", "refused")
"""Kinds that are not retried, because another try would fail in the same way."""

KEEP = "answers already received are kept: run again to resume"


class Fault(Exception):
    """A failed request."""

    def __init__(
        self,
        kind: RequestFault,
        what: str,
        words: str = "",
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        may_be_charged: bool = False,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.what = what
        """What happened, in our words."""
        self.words = words
        """The server's words, not cleaned: clean them before showing them."""
        self.status = status
        self.retry_after_s = retry_after_s
        """The server's Retry-After in seconds; None if it sent none."""
        self.may_be_charged = may_be_charged
        """Whether the server may charge for a reply that did not arrive."""

    @property
    def is_passing(self) -> bool:
        """Whether a retry may succeed."""
        return self.kind not in FINAL

    @property
    def is_about_the_request(self) -> bool:
        """Whether only this request was refused, so that the server still counts as working."""
        status = self.status or 0
        return self.kind == "refused" and status >= 400 and status not in (404, 405)


def status_fault(status: int, words: str, retry_after_s: float | None, location: str) -> Fault:
    """The fault for an HTTP status other than 200."""
    if 300 <= status < 400:
        what = f"HTTP {status}: it has moved to another address, give that one: "
        return Fault("refused", what, location or words, status=status)
    what = f"HTTP {status}: "
    if status == 429:
        kind: RequestFault = "rate_limited"
    elif status == 408:
        kind = "timeout"
    elif status in (409, 425) or status >= 500:
        kind = "server_error"
    elif status in (401, 402, 403):
        kind = "key_refused"
    else:
        kind = "refused"
    return Fault(kind, what, words, status=status, retry_after_s=retry_after_s)


def failure(server: TeacherServer, fault: Fault, tries: int, models: str = "") -> TeacherError:
    """The error after the last try: one cleaned line that says what to do.

    `models` is the server's list of models, if it gave one.
    """
    words, models = server.quoted(fault.words), server.quoted(models)
    error = _failure(server, fault, f"{fault.what}{words}", tries, models)
    error.quoted = (words, models, server.model_shown)
    return error


def _failure(
    server: TeacherServer, fault: Fault, said: str, tries: int, models: str
) -> TeacherError:
    where = f"teacher {server.base_url} (model {server.model_shown})"
    times = f"{tries} time{'s' if tries > 1 else ''}"
    if fault.kind == "key_refused":
        sent = "none was sent" if server.api_key is None else "one was sent"
        return TeacherRefused(
            f"{where} refused the API key ({sent}): {said}; check the environment variable "
            f"{server.key_variable}"
        )
    if fault.kind == "refused":
        offers = f"; it offers: {models}" if models else ""
        return TeacherRefused(f"{where} refused the request: {said}{offers}")
    if fault.kind == "connection":
        return TeacherUnreachable(f"{where}: cannot be reached, {times}: {said}; {KEEP}")
    if fault.kind == "timeout" and fault.status is None:
        return TeacherUnreachable(f"{where}: no reply in time, {times}; {KEEP}")
    if fault.kind in ("timeout", "rate_limited", "server_error"):
        return TeacherUnreachable(f"{where}: failed {times}, last with {said}; {KEEP}")
    if fault.kind == "compressed":
        return TeacherError(f"{where}: {said}; switch compression off there; {KEEP}")
    if fault.kind == "wrong_model":
        return TeacherError(f"{where}: {said}; name the model that you want; {KEEP}")
    return TeacherError(
        f"{where}: {said}; is it an OpenAI-compatible server, and does its address end in /v1? "
        f"{KEEP}"
    )
