"""Text processing before training: prompts, answers, token rows, vocabularies.

Nothing here imports torch.
"""

from quantum_hybrid.text.duplicates import NearDuplicates
from quantum_hybrid.text.encoder import IGNORED, Encoder, Example, SpanLogprobs, teacher_rows
from quantum_hybrid.text.prompts import (
    LeakageCheck,
    held_out_prompts,
    load_prompts,
    prompts_in,
    split_of,
    training_schedule,
)
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Prompt, Sampling
from quantum_hybrid.text.selection import PromptSelection

__all__ = [
    "IGNORED",
    "Answer",
    "AnswerLogprobs",
    "Encoder",
    "Example",
    "LeakageCheck",
    "NearDuplicates",
    "Prompt",
    "PromptSelection",
    "Sampling",
    "SpanLogprobs",
    "held_out_prompts",
    "load_prompts",
    "prompts_in",
    "split_of",
    "teacher_rows",
    "training_schedule",
]
