"""A scored group in the form of Atropos's ScoredDataGroup: one line of groups.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantum_hybrid.text import Answer, Example, Prompt


@dataclass(frozen=True, eq=False)
class ScoredGroup:
    """One prompt with its answers, their token rows and their rewards."""

    prompt: Prompt
    answers: list[Answer]
    examples: list[Example]
    scores: list[float]

    def as_fields(self) -> dict[str, Any]:
        """The fields of Atropos's ScoredDataGroup; None where a teacher's text has no value."""
        messages = [
            [
                {"role": "user", "content": self.prompt.text},
                {"role": "assistant", "content": answer.text},
            ]
            for answer in self.answers
        ]
        return {
            "tokens": [list(example.tokens) for example in self.examples],
            "masks": [list(example.mask) for example in self.examples],
            "scores": self.scores,
            "messages": messages,
            "advantages": None,
            "ref_logprobs": None,
            "inference_logprobs": None,
            "generation_params": None,
            "group_overrides": {},
            "overrides": None,
            "images": None,
            "distill_token_ids": None,
            "distill_logprobs": None,
        }
