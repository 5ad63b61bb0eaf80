"""A batch of examples: from token rows to the hidden states that predict answer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.student.model import HybridForCausalLM
from quantum_hybrid.text.encoder import IGNORED, Example


@dataclass(frozen=True)
class AnswerRows:
    """All pairs (hidden state, next token) whose next token belongs to an answer."""

    hidden: Float[Tensor, "rows d_model"]
    targets: Int[Tensor, " rows"]
    example: Int[Tensor, " rows"]
    """Index of the example that each row belongs to."""

    def per_example(self, values: Float[Tensor, " rows"]) -> Float[Tensor, " examples"]:
        """Mean of a quantity over each example's rows."""
        count = int(self.example.max()) + 1
        sums = torch.zeros(count, dtype=values.dtype).index_add_(0, self.example, values)
        return sums / torch.bincount(self.example, minlength=count)


def answer_rows(student: HybridForCausalLM, examples: Sequence[Example]) -> AnswerRows:
    """Run the backbone over the examples and keep the positions that predict an answer token.

    The position before a token predicts it. Prompt tokens are context and never targets. Padding is
    on the right, where earlier positions of a causal model do not see it.

    A frozen backbone runs each text separately. Its hidden states then do not depend, to the last
    bit, on the other texts of the batch, and can be kept on disk (`student.features`).
    """
    if not any(parameter.requires_grad for parameter in student.backbone.parameters()):
        return _frozen_answer_rows(student, examples)
    input_ids, targets = _padded(examples)
    hidden = student.hidden_states(input_ids)[:, :-1]
    next_tokens = targets[:, 1:]
    kept = next_tokens != IGNORED
    example = torch.arange(len(examples)).unsqueeze(1).expand_as(kept)
    return AnswerRows(hidden[kept], next_tokens[kept], example[kept])


def _frozen_answer_rows(student: HybridForCausalLM, examples: Sequence[Example]) -> AnswerRows:
    hidden = [_frozen_hidden(student, example) for example in examples]
    return AnswerRows(torch.cat(hidden), *answer_targets(examples))


def answer_targets(
    examples: Sequence[Example],
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
    """`targets` and `example` of `AnswerRows`, computed without the backbone."""
    targets = [[token for token in example.mask[1:] if token != IGNORED] for example in examples]
    counts = torch.tensor([len(tokens) for tokens in targets])
    return (
        torch.tensor([token for tokens in targets for token in tokens]),
        torch.arange(len(examples)).repeat_interleave(counts),
    )


def _frozen_hidden(student: HybridForCausalLM, example: Example) -> Float[Tensor, "rows d_model"]:
    positions = [i for i, target in enumerate(example.mask[1:]) if target != IGNORED]

    @torch.no_grad()
    def compute() -> Float[Tensor, "rows d_model"]:
        return student.hidden_states(torch.tensor([example.tokens]))[0, positions]

    if student.features is None:
        return compute()
    return student.features.rows(example.tokens, positions, compute)


def _padded(
    examples: Sequence[Example],
) -> tuple[Int[Tensor, "examples positions"], Int[Tensor, "examples positions"]]:
    longest = max(len(example.tokens) for example in examples)
    input_ids = torch.zeros(len(examples), longest, dtype=torch.long)
    targets = torch.full((len(examples), longest), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        input_ids[row, :length] = torch.tensor(example.tokens)
        targets[row, :length] = torch.tensor(example.mask)
    return input_ids, targets
