"""The account of a run with its teacher: requests, faults, answers, tokens and cost.

A request is counted when it is sent, a fault when it occurs, an answer when it arrives.
`as_fields` gives the content of `teacher.json` and of `teacher` in `summary.json`.
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
    """Counts of one start of a run; `plus` adds those of earlier starts."""

    requests: int = 0
    """Chat requests sent, including retries. A request for the list of models is not counted."""
    retries: int = 0
    answers: int = 0
    """Answers received, including those for which another run had stored an answer first."""
    answers_from_cache: int = 0
    cut_at_length: int = 0
    """Received answers that the server cut at `max_tokens` (`finish_reason` length)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens that the teacher wrote. A lower bound if the server gives no usage, or counts only
    the first of n answers and sends no logprobs."""
    cost: float = 0.0
    """Cost of the tokens that the server counted, in the currency of the prices."""
    unknown_cost: float = 0.0
    """Upper bound on the total cost of replies that were not read or gave no usage."""
    faults: Counter[str] = field(default_factory=Counter)
    """Number of faults by kind; the module `faults` lists the kinds."""
    answers_by_teacher: Counter[str] = field(default_factory=Counter)
    """Received answers by model and server."""

    def charge(
        self, server: TeacherServer, prompt_text: str, n_asked: int, max_tokens: int, reply: Reply
    ) -> None:
        """Count the tokens of a reply, and their cost if the prices are known."""
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
        """The sum of this account and one that `as_fields` wrote."""
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
    """Lower bound on the tokens written for these choices, whatever the server counted."""
    total = 0
    for choice in reply.choices:
        if choice.logprobs is not None:
            total += len(choice.logprobs.tokens)
        elif choice.finish_reason == "length":
            total += max_tokens
        elif choice.text is not None:
            total += 1
    return total
