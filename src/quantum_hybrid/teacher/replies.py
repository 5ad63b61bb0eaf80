"""Parse a chat-completions reply: from the HTTP body to texts, log-probabilities, token counts.

OpenAI-compatible servers omit different fields. A missing or malformed field becomes None or raises
`ReplyError`; no value is made up.

OpenAI's format has no token ids. llama.cpp writes an `id` into every entry of `logprobs.content[]`
and of its `top_logprobs`. vLLM, started with --return-tokens-as-token-ids, writes `token_id:7` in
place of the token's text. Without ids the other fields are kept. A token's text is decoded from its
`bytes` if they are given, because a token may be part of a character.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from quantum_hybrid.text.records import SPELLED_ID, AnswerLogprobs

MAX_TEXT_BYTES = 64 * 1024
"""Longest text of an answer, in bytes of UTF-8; a longer one is rejected."""
_MOST_TOKENS = 2**31
_SLACK = 1e-2
"""Tolerance above 1 for a sum of rounded probabilities."""
_HIGHEST = 1e-6
"""Largest log-probability: a float32 server may round log 1 to slightly above zero."""
_UNSAID = -9999.0
"""OpenAI's placeholder for an unknown log-probability. llama.cpp's is the lowest float32."""


class ReplyError(ValueError):
    """The body is not the expected reply; `fault` says why, `body` is the body."""

    def __init__(self, fault: str, body: str) -> None:
        super().__init__(fault)
        self.fault = fault
        self.body = body
        """The server's text, not cleaned: clean it before showing it."""


@dataclass(frozen=True)
class Choice:
    """One of the answers in a reply."""

    text: str | None
    """The text; None if it cannot be used, for the reason in `lacks`."""
    finish_reason: str
    logprobs: AnswerLogprobs | None
    index: int = 0
    """Index of the answer within the request, as reported by the server."""
    lacks: Literal["empty", "not_text", "content_filter", "oversized"] | None = None
    """Why there is no text: only white space, not a string, withheld by the server, or too long."""
    has_nan_logprobs: bool = False
    """Whether a log-probability was NaN or infinite; `logprobs` does not contain it."""


@dataclass(frozen=True)
class Reply:
    """A parsed reply."""

    choices: tuple[Choice, ...]
    """Sorted by index, each index once; there may be fewer or more than requested."""
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    """Generated tokens as the server counts them; llama.cpp counts the first choice only."""
    n_repeated: int = 0
    """Number of choices left out because their index occurred before."""


def parse_object(body: str) -> dict[str, Any]:
    """The JSON object in a reply's body. Raises `ReplyError` if it is not one."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReplyError("its reply is not valid JSON", body) from error
    if not isinstance(parsed, dict):
        raise ReplyError("its reply is not a JSON object", body)
    return parsed


def parse_reply(body: str) -> Reply:
    """Parse the body of a chat-completions reply. Raises `ReplyError` if it is not one."""
    parsed = parse_object(body)
    choices = parsed.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ReplyError("its reply holds no list of choices", body)
    indices = [choice.get("index") for choice in choices]
    if not all(_is_count(index) for index in indices):
        indices = list(range(len(choices)))
    by_index: dict[int, Choice] = {}
    for index, choice in zip(indices, choices, strict=True):
        if index not in by_index:
            by_index[index] = _parse_choice(choice, index)
    model = parsed.get("model")
    usage = parsed.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        choices=tuple(by_index[index] for index in sorted(by_index)),
        model=_well_formed(model[:200]) if isinstance(model, str) and model.strip() else None,
        prompt_tokens=_token_count(usage.get("prompt_tokens")),
        completion_tokens=_token_count(usage.get("completion_tokens")),
        n_repeated=len(choices) - len(by_index),
    )


def parse_model_names(body: str) -> tuple[str, ...]:
    """The models' names in a reply to GET /models. Raises `ReplyError` if it is not one."""
    data = parse_object(body).get("data")
    if not isinstance(data, list):
        raise ReplyError("its reply holds no list of models", body)
    ids = (entry.get("id") for entry in data if isinstance(entry, dict))
    names = (name for name in ids if isinstance(name, str) and name.strip())
    return tuple(name for name in names if name == _well_formed(name))


def _parse_choice(choice: dict[str, Any], index: int) -> Choice:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    reason = choice.get("finish_reason")
    reason = _well_formed(reason[:50]) if isinstance(reason, str) else "unknown"
    text = _well_formed(content) if isinstance(content, str) else ""
    if reason == "content_filter":
        return Choice(None, reason, None, index, "content_filter")
    if not text.strip():
        is_text = content is None or isinstance(content, str)
        return Choice(None, reason, None, index, "empty" if is_text else "not_text")
    if len(text.encode("utf-8")) > MAX_TEXT_BYTES:
        return Choice(None, reason, None, index, "oversized")
    content = _logprob_rows(choice)
    return Choice(
        text, reason, _parse_logprobs(content), index, has_nan_logprobs=_any_not_finite(content)
    )


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # isinstance would accept True.


def _token_count(value: object) -> int | None:
    """A plausible number of tokens, or None."""
    return value if _is_count(value) and value < _MOST_TOKENS else None


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which JSON can encode and UTF-8 cannot, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _logprob_rows(choice: dict[str, Any]) -> list[Any]:
    """`logprobs.content`, one entry per token; empty if there is no such list."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []


def _any_not_finite(content: list[Any]) -> bool:
    """Whether a log-probability, of a token or listed, is given as NaN or infinity."""
    for entry in content:
        if isinstance(entry, dict):
            listed = entry.get("top_logprobs")
            rows = [entry, *listed] if isinstance(listed, list) else [entry]
            if any(_is_not_finite(row.get("logprob")) for row in rows if isinstance(row, dict)):
                return True
    return False


def _is_not_finite(value: object) -> bool:
    """JSON has no NaN: Python's is a bare word, pydantic's a string. 1e999 becomes infinity."""
    if not isinstance(value, int | float | str):
        return False
    try:
        return not math.isfinite(float(value))
    except OverflowError:  # an integer beyond every float
        return True
    except ValueError:  # a string that is no number
        return False


def _parse_logprobs(content: list[Any]) -> AnswerLogprobs | None:
    """One row per answer token; None if a row lacks anything except ids."""
    if not content:
        return None
    try:
        lists = [_listed(entry) for entry in content]
        token_ids, top_ids = _ids(content, lists)
        return AnswerLogprobs(
            tokens=tuple(map(_text, content)),
            token_ids=token_ids,
            top_ids=top_ids,
            top_logprobs=tuple(tuple(min(_value(one), 0.0) for one in row) for row in lists),
            token_logprobs=tuple(
                _own_logprob(entry) if row else None
                for entry, row in zip(content, lists, strict=True)
            ),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _listed(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The most likely tokens at one position, most likely first; empty if they belong elsewhere.

    Two tokens may have the same text: vLLM decodes each by itself, so " a" and "a" may both be "a".
    Therefore the sum of their probabilities, and not their texts, shows whether they belong to one
    distribution. Raises `ValueError` if they do not.
    """
    row = sorted(entry["top_logprobs"], key=_value, reverse=True)
    values = [_value(one) for one in row]
    if not row or not all(math.isfinite(value) and value <= _HIGHEST for value in values):
        raise ValueError("logprobs must be finite and at most zero")
    if sum(map(math.exp, values)) > 1 + _SLACK:
        raise ValueError("logprobs must be those of one distribution")
    return [] if _goes_on(row[0]) and not _goes_on(entry) else row


def _goes_on(entry: dict[str, Any]) -> bool:
    """Whether the token begins within a character (with a UTF-8 continuation byte).

    llama.cpp holds back the first tokens of a character and writes the whole character with its
    last token. The listed probabilities are then those of the last byte only.
    """
    spelled = _bytes(entry)
    return spelled is not None and 0x80 <= spelled[0] < 0xC0


def _value(entry: dict[str, Any]) -> float:
    return float(entry["logprob"])


def _own_logprob(entry: dict[str, Any]) -> float | None:
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(float(value), 0.0) if _UNSAID < value <= _HIGHEST else None


def _text(entry: dict[str, Any]) -> str:
    spelled = _bytes(entry)
    if spelled is None:
        return _well_formed(entry["token"])
    return spelled.decode("utf-8", "surrogateescape")


def _bytes(entry: dict[str, Any]) -> bytes | None:
    """The token's bytes; None if they are missing, malformed or empty."""
    found = entry.get("bytes")
    if not isinstance(found, list) or not all(_is_count(byte) and byte < 256 for byte in found):
        return None
    return bytes(found) or None


def _ids(
    content: list[dict[str, Any]], lists: list[list[dict[str, Any]]]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Ids of the sampled and of the listed tokens; empty unless all are given."""
    try:
        sampled = tuple(map(_token_id, content))
        listed = tuple(tuple(map(_token_id, row)) for row in lists)
    except ValueError:
        return (), ()
    if any(len(set(row)) < len(row) for row in listed):
        raise ValueError("logprobs must be those of different tokens")
    return sampled, listed


def _token_id(entry: dict[str, Any]) -> int:
    token, token_id = entry.get("token"), entry.get("id")
    if token_id is None and isinstance(token, str) and token.startswith(SPELLED_ID):
        digits = token.removeprefix(SPELLED_ID)
        token_id = int(digits) if digits.isdecimal() and len(digits) < 10 else None
    if type(token_id) is not int or not 0 <= token_id < _MOST_TOKENS:
        raise ValueError("a token id must be a whole number")
    return token_id
