"""What the two pathways of a trained student predict for the next token, and their mixture.

    python examples/compare_pathways.py runs/NAME "Why is the sky blue?"

Prints the tokens that the hybrid finds most likely after the question, with the probability that
each of the three gives them, and how much of the mixture is the quantum pathway's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer

from quantum_hybrid import HybridForCausalLM
from quantum_hybrid.text import Encoder, Prompt

SHOWN = 8
"""Tokens in the table."""


def compare(run: Path, question: str) -> list[str]:
    """The table for one question, as lines."""
    student = HybridForCausalLM.from_pretrained(run / "student").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "student")
    tokens = Encoder(tokenizer).prompt_tokens(Prompt("question", "", question))
    with torch.no_grad():
        hidden = student.hidden_states(torch.tensor([tokens]))[0, -1]
        logits = student.head(hidden)
    each = (logits.hybrid, logits.classical, logits.quantum)
    probabilities = torch.stack([one.softmax(-1) for one in each], -1)
    alpha = student.head.alpha.item()
    lines = [f"alpha {alpha:.3f}: the quantum pathway has a weight of {1 - alpha:.3f}", ""]
    lines.append(f"{'next token':20}{'hybrid':>10}{'classical':>11}{'quantum':>10}")
    for token in logits.hybrid.topk(SHOWN).indices.tolist():
        hybrid, classical, quantum = probabilities[token].tolist()
        text = repr(tokenizer.decode([token]))
        lines.append(f"{text:20}{hybrid:10.4f}{classical:11.4f}{quantum:10.4f}")
    return lines


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description="A trained student's pathways side by side.")
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("question", help="what the student is asked")
    arguments = parser.parse_args()
    student = arguments.run / "student"
    # A folder that is not there is a model's name for Hugging Face, which then asks its hub.
    if not (student / "config.json").is_file():
        parser.exit(2, f"error: {student} holds no student; wanted: a finished run's directory\n")
    print("\n".join(compare(arguments.run, arguments.question)))


if __name__ == "__main__":
    main()
