"""Retries: the formula, and requests to a real server."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.errors import TeacherUnreachable
from quantum_hybrid.teacher.retry import (
    LONGEST_BACKOFF_S,
    LONGEST_RETRY_AFTER_S,
    RetryPolicy,
    parse_retry_after,
)
from scripted_server import texts

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@given(
    retry=st.integers(0, 10_000),
    first=st.floats(0, 100),
    asked=st.none() | st.floats(0, 1e6),
    seed=st.integers(),
)
def test_never_before_the_server_allows_it_and_never_for_ever(retry, first, asked, seed):
    wait = RetryPolicy(5, first).wait_s(retry, asked, random.Random(seed))
    assert (asked or 0.0) <= wait <= (asked or 0.0) + LONGEST_BACKOFF_S


def test_backoff_doubles_and_is_jittered():
    policy = RetryPolicy(5, 0.5)
    jitter = random.Random(0)
    drawn = [[policy.wait_s(retry, None, jitter) for _ in range(200)] for retry in range(5)]
    for retry, waits in enumerate(drawn):
        longest = 0.5 * 2**retry
        assert longest / 2 <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for():
    policy = RetryPolicy(2, 0.5)
    assert policy.allows(1, LONGEST_RETRY_AFTER_S)
    assert not policy.allows(1, LONGEST_RETRY_AFTER_S + 1)
    assert not policy.allows(2, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", float("inf")),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert parse_retry_after(header, NOW) == seconds


def test_retry_after_is_honoured(scripted, open_cache):
    scripted.script = [(429, {"Retry-After": "1"}, {}), (503, {"Retry-After": "0"}, {})]
    started = time.monotonic()
    assert texts(scripted.server(), open_cache(), count=1) == ["text 100"]
    assert time.monotonic() - started >= 1.0, "asked again before the server allowed it"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 520, 529])
def test_passing_statuses_are_asked_again(scripted, open_cache, status):
    scripted.script = [status]
    assert texts(scripted.server(), open_cache(), count=1) == ["text 100"]
    assert len(scripted.requests) == 2


@pytest.mark.parametrize(("asked", "n_tries"), [("36000", 1), ("1e309", 1), ("soon", 3)])
def test_a_wait_that_is_too_long_or_no_wait_is_named(scripted, open_cache, asked, n_tries):
    """One that is too long is a failure at once."""
    scripted.script = [(429, {"Retry-After": asked}, {})] * 3
    with pytest.raises(TeacherUnreachable) as failed:
        texts(scripted.server(), open_cache(), count=1)
    said = f"last with HTTP 429: (Retry-After '{asked}' is not a wait of at most 300 s)"
    assert said in str(failed.value)
    assert len(scripted.requests) == n_tries
