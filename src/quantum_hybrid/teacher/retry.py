"""When to retry a request: exponential backoff with jitter, never before the server allows it.

    wait before retry k = max(Retry-After, 0) + J * min(first * 2^k, 20 s),  J uniform in [1/2, 1]

The jitter spreads the retries of requests that failed at the same time (Brooker, "Exponential
Backoff and Jitter", AWS Architecture Blog, 2015). After a Retry-After longer than
`LONGEST_RETRY_AFTER_S` there is no retry: the server counts as unreachable.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF_S = 20.0
LONGEST_RETRY_AFTER_S = 300.0


@dataclass(frozen=True)
class RetryPolicy:
    """Number and timing of a request's retries."""

    max_retries: int
    first_wait_s: float

    def wait_s(self, retry: int, retry_after_s: float | None, jitter: random.Random) -> float:
        """Seconds to wait before retry number `retry`, counted from 0."""
        backoff = min(self.first_wait_s * 2.0 ** min(retry, 60), LONGEST_BACKOFF_S)
        return max(retry_after_s or 0.0, 0.0) + backoff * jitter.uniform(0.5, 1.0)

    def allows(self, retry: int, retry_after_s: float | None) -> bool:
        """Whether there is a retry number `retry`, counted from 0."""
        return retry < self.max_retries and (retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header demands as a number or a date (RFC 9110, 10.2.3).

    None if the header is absent or is neither.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # Not a date, or outside the calendar's range.
            return None
        # "-0000" means UTC of unknown origin and is parsed without a zone.
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None  # float() accepts "nan".
