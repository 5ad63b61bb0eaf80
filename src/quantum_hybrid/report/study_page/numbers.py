"""Every number of a study's page as text, with a true minus sign and commas in thousands.

    nats(6.41234)          6.4123          count(16384)     16,384
    signed(-0.0131)        −0.0131         seconds(4000)    1 h 6 min
    interval(-0.01, 0.02)  −0.0100 to +0.0200

A number that is missing is a dash, and one that is not finite says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

MISSING = "–"
NOT_FINITE = "not finite"
_MINUS = "\u2212"
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def nats(value: float | None) -> str:
    """A loss or the size of a difference, in nats per token."""
    return _finite(value, lambda number: f"{number:.4f}")


def signed(value: float | None) -> str:
    """A difference, in nats per token, with its sign."""
    return _finite(value, lambda number: f"{number:+.4f}" if round(number, 4) else "0.0000")


def interval(low: float | None, high: float | None) -> str:
    """The interval of a difference."""
    if low is None or high is None:
        return MISSING
    return f"{signed(low)} to {signed(high)}"


def probability(value: float | None) -> str:
    """A p-value."""
    return _finite(value, lambda number: "< 0.001" if number < 0.001 else f"{number:.3f}")


def share(value: float | None) -> str:
    """A share of 1, in percent."""
    return _finite(value, lambda number: f"{100 * number:.1f} %")


def perplexity(loss: float | None) -> str:
    """exp of a loss in nats per token."""
    if loss is not None and math.isfinite(loss) and loss > 99:
        return "above 10⁴²"
    return _finite(loss, lambda number: f"{math.exp(number):,.2f}")


def figure(value: float | None) -> str:
    """Any other number, with three significant digits."""
    return _finite(value, _three_digits)


def count(value: float | None) -> str:
    """A number of things."""
    return _finite(value, lambda number: f"{round(number):,}")


def seconds(value: float | None) -> str:
    """A time."""
    return _finite(value, _time)


def _three_digits(value: float) -> str:
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"


def _time(value: float) -> str:
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _finite(value: float | None, form: Callable[[float], str]) -> str:
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return NOT_FINITE
    return form(value).replace("-", _MINUS)
