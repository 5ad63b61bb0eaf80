"""What a run asked of its teacher, what went wrong with it, and what it paid.

Everything is counted once, where it happens: a request when it is sent, a fault when it is met, an
answer when it comes. `as_fields` is what `summary.json` and `teacher.json` hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantum_hybrid.teacher.replies import Reply
from quantum_hybrid.teacher.server import TeacherServer


@dataclass
class Account:
    """Counts of one start of a run; `plus` adds an earlier start's."""

    requests: int = 0
    """Chat requests sent, each retry as one more. Asking for the list of models is not one."""
    retries: int = 0
    answers: int = 0
    """Answers that came. Where another run's was stored first, that one is used."""
    answers_from_cache: int = 0
    cut_at_length: int = 0
    """Of these, those that the server cut at the longest length (`finish_reason` length)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens the teacher wrote; a lower bound where it counts only the first of n answers and
    sends no logprobs, or gives no usage."""
    cost: float = 0.0
    """Of the tokens that the server counted, in the prices' currency."""
    unknown_cost: float = 0.0
    """The most that all replies together can have cost that were not read, or had no usage."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind, see `faults`."""
    answers_by_teacher: Counter[str] = field(default_factory=Counter)
    """Of these, by the model and the server that wrote them."""

    def charge(
        self, server: TeacherServer, prompt_text: str, n_asked: int, max_tokens: int, reply: Reply
    ) -> None:
        """Count the tokens of a reply, and their cost where prices are known."""
        at_least = _tokens_at_least(reply, max_tokens)
        completion = max(reply.completion_tokens or 0, at_least)
        self.completion_tokens += completion
        self.prompt_tokens += reply.prompt_tokens or 0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            self.faults["no_usage"] += 1
            if server.prices is not None:
                self.unknown_cost += server.prices.most(prompt_text, n_asked, max_tokens)
        elif server.prices is not None:
            self.cost += server.prices.cost(reply.prompt_tokens, completion)

    def as_fields(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "answers": self.answers,
            "answers_from_cache": self.answers_from_cache,
            "cut_at_length": self.cut_at_length,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": round(self.cost, 9),
            "unknown_cost": round(self.unknown_cost, 9),
            "faults": dict(sorted(self.faults.items())),
            "answers_by_teacher": dict(sorted(self.answers_by_teacher.items())),
        }

    def plus(self, fields: Mapping[str, Any]) -> Account:
        """This account and one that was written down with `as_fields`."""
        total = Account()
        for part in (fields, self.as_fields()):
            for name, value in part.items():
                sum_so_far = getattr(total, name)
                if isinstance(sum_so_far, Counter):
                    sum_so_far.update(value)
                else:
                    setattr(total, name, sum_so_far + value)
        return total


def _tokens_at_least(reply: Reply, max_tokens: int) -> int:
    """Tokens that must have been written for these choices, whatever the server counted."""
    total = 0
    for choice in reply.choices:
        if choice.logprobs is not None:
            total += len(choice.logprobs.tokens)
        elif choice.finish_reason == "length":
            total += max_tokens
        elif choice.text is not None:
            total += 1
    return total
