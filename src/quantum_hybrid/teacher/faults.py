"""What can go wrong with one request, by kind; what each kind means for the next one.

    kind            what happened                                        asked again
    connection      refused, reset, or broken before the reply's end     yes
    timeout         no whole reply in time, or HTTP 408                  yes
    rate_limited    HTTP 429                                             yes, Retry-After honoured
    server_error    HTTP 5xx, or 409 or 425: a passing state             yes, Retry-After honoured
    malformed       HTTP 200, but not a chat completion (cut JSON, ...)  yes
    compressed      HTTP 200, but gzip or another coding not asked for   yes
    no_choice       a chat completion without any answer                 yes
    oversized       a reply larger than any real one                     yes
    wrong_model     the answer names another model than was asked        yes
    key_repeated    the reply holds the API key                          yes
    key_refused     HTTP 401, 402, 403: no key, no credit, no access     no
    refused         any other HTTP status                                no

These are counted for each request. Of a reply that is taken, but lacks something, each answer is
counted; text that it lacks is asked for anew:

    empty           without text, or of white space only
    content_filter  withheld by the server
    oversized       an answer longer than any real one
    missing         fewer choices than asked for
    surplus         more choices than asked for, or two with the same index
    no_usage        a reply that does not say how many tokens it took
    nan_logprobs    an answer with a log-probability that is NaN or infinite; its text is used,
                    that log-probability is not
    corrupt_row     a kept answer that does not fit its checksum any more
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
"""Kinds that another try would meet again."""

KEEP = "answers already received are kept: run again to go on from there"


class Fault(Exception):
    """One request that brought nothing usable."""

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
        """Ours: what happened."""
        self.words = words
        """The server's, as it sent them: clean them before showing them."""
        self.status = status
        self.retry_after_s = retry_after_s
        """How long the server asked us to wait; None if it did not."""
        self.may_be_charged = may_be_charged
        """Whether the server may have written, and charged for, what did not arrive."""

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered the next time."""
        return self.kind not in FINAL

    @property
    def is_about_the_request(self) -> bool:
        """Whether this one request was refused, the server being as good as before."""
        status = self.status or 0
        return self.kind == "refused" and status >= 400 and status not in (404, 405)


def status_fault(status: int, words: str, retry_after_s: float | None, location: str) -> Fault:
    """The fault that a status other than 200 stands for."""
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
    """What to tell the user after the last try: one line, cleaned, with what to do about it.

    `models`: the server's own list of models, as far as it gave one.
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
