"""Two ways of training, compared on the same held-out answers:

    python -m benchmarks.paired RUN_A RUN_B [RUN_A RUN_B ...]      a pair of finished runs a seed

For each pair: the hybrid loss of B minus that of A, and the same of the divergence from the
teacher where it is known, in nats per token, each with its standard error, answers being the
independent units. Then the mean over pairs, with its standard error over pairs, which holds what a
seed changes besides the held-out answers. Prints a table and, as its last line, one line of JSON.

Raises `SystemExit` for runs that were not evaluated on the same answers, or cut them into other
tokens: losses per token could not be compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer
from transformers.utils import logging

from quantum_hybrid.distillation import top_k_kl
from quantum_hybrid.evaluation import MeanEstimate, all_answer_rows, mean_over_units
from quantum_hybrid.run.directory import finished_run, read_held_out
from quantum_hybrid.student import HybridForCausalLM
from quantum_hybrid.text.encoder import Encoder, Example, teacher_rows

ROWS_AT_A_TIME = 256


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.paired", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    runs = [finished_run(run) for run in parser.parse_args().runs]
    if len(runs) % 2:
        parser.error(f"{len(runs)} runs; allowed: pairs")
    logging.disable_progress_bar()
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    found = [_compare(*pair) for pair in pairs]
    for (a, b), differences in zip(pairs, found, strict=True):
        _print(f"{b} minus {a}", differences)
    means = {name: _over_pairs([pair[name] for pair in found]) for name in found[0]}
    if len(pairs) > 1:
        _print(f"mean of {len(pairs)} pairs", means)
    record = {
        "pairs": [{"a": str(a), "b": str(b)} for a, b in pairs],
        "differences": [_as_lists(differences) for differences in found],
        "means": _as_lists(means),
    }
    print(json.dumps(record))


def _print(title: str, estimates: dict[str, MeanEstimate]) -> None:
    print(title)
    for name, one in estimates.items():
        error = "" if one.standard_error is None else f" +- {one.standard_error:.4f}"
        print(f"  {name:<20}{one.mean:+.4f}{error} nats per token")


def _as_lists(estimates: dict[str, MeanEstimate]) -> dict[str, list[float | None]]:
    return {name: [one.mean, one.standard_error] for name, one in estimates.items()}


def _over_pairs(estimates: list[MeanEstimate]) -> MeanEstimate:
    return mean_over_units(torch.tensor([one.mean for one in estimates], dtype=torch.float64))


def _compare(a: Path, b: Path) -> dict[str, MeanEstimate]:
    """B minus A: each figure's mean over rows, answers being the units."""
    if (held_out := read_held_out(a)) != read_held_out(b):
        raise SystemExit(f"{a} and {b}: were evaluated on different held-out answers")
    encoders = [Encoder(AutoTokenizer.from_pretrained(run / "student")) for run in (a, b)]
    examples, others = ([one.example(*pair) for pair in held_out] for one in encoders)
    if examples != others:
        raise SystemExit(f"{a} and {b}: cut the held-out answers into different tokens")
    of_example = torch.tensor(
        [i for i, e in enumerate(examples) for _ in range(len(e.tokens) - e.n_context)]
    )
    known = sorted(teacher_rows(examples))
    units = {"hybrid loss": of_example, "KL to the teacher": of_example[known]}
    ours, theirs = (_figures(run, examples) for run in (a, b))
    return {name: mean_over_units(theirs[name] - ours[name], units[name]) for name in ours}


@torch.no_grad()
def _figures(run: Path, examples: list[Example]) -> dict[str, torch.Tensor]:
    """Each row's hybrid loss, and its divergence where the teacher's is known, in nats."""
    student = HybridForCausalLM.from_pretrained(run / "student").eval()
    rows, teacher = all_answer_rows(student, examples), teacher_rows(examples)
    losses, divergences = [], []
    for chunk in torch.arange(len(rows.targets)).split(ROWS_AT_A_TIME):
        log_q = F.log_softmax(student.head(rows.hidden[chunk]).hybrid.double(), -1)
        losses.append(-log_q.gather(1, rows.targets[chunk, None]).squeeze(1))
        for row in (row for row in chunk.tolist() if row in teacher):
            ids, values = teacher[row]
            log_p = torch.tensor([values], dtype=torch.float64)
            divergences.append(top_k_kl(log_p, log_q[row - int(chunk[0])][None, list(ids)]))
    found = {"hybrid loss": torch.cat(losses)}
    return found | ({"KL to the teacher": torch.cat(divergences)} if divergences else {})


if __name__ == "__main__":
    main()
