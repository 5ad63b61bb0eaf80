"""Text processing before training: prompts, answers, token rows, vocabularies.

Nothing here imports torch.
"""

from quantum_hybrid.text.duplicates import NearDuplicates
from quantum_hybrid.text.encoder import IGNORED, Encoder, Example, SpanLogprobs, teacher_rows
from quantum_hybrid.text.prompts import (
    LeakageCheck,
    PromptSet,
    built_in_prompts,
    split_of,
)
from quantum_hybrid.text.prompts_file import PromptsFile, read_prompts_file
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
    "PromptSet",
    "PromptsFile",
    "Sampling",
    "SpanLogprobs",
    "built_in_prompts",
    "read_prompts_file",
    "split_of",
    "teacher_rows",
]
