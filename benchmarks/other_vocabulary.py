"""A student's backbone of another vocabulary than the embedded teacher's:

    python -m benchmarks.other_vocabulary FOLDER --merges 8000

The embedded model with the first so many merges of its tokenizer, and the embeddings of the tokens
that these make. It cuts a text into more and shorter tokens than the teacher, numbers them anew,
and still knows what they mean: the only pretrained pair of vocabularies that needs no download. For
experiments with ``process --env.base_model_name FOLDER --env.distill_loss uld``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from quantum_hybrid.backbone import prepare_embedded


def main() -> None:
    """Write the model and its tokenizer into a new folder, and say how large its vocabulary is."""
    parser = argparse.ArgumentParser(prog="benchmarks.other_vocabulary", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--merges", type=int, default=8000)
    chosen = parser.parse_args()
    if chosen.folder.exists():
        parser.error(f"{chosen.folder}: exists; name a new folder")
    logging.disable_progress_bar()
    source = prepare_embedded(print)
    tokenizer = json.loads((Path(source) / "tokenizer.json").read_text(encoding="utf-8"))
    n_merges = len(tokenizer["model"]["merges"])
    if not 0 <= chosen.merges <= n_merges:
        parser.error(f"--merges {chosen.merges}; allowed: 0 to {n_merges}")
    kept = _cut(tokenizer, chosen.merges)
    loaded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model = cast(PreTrainedModel, loaded)
    embedding = cast(Tensor, model.get_input_embeddings().weight).detach()[kept].clone()
    model.resize_token_embeddings(len(kept))
    with torch.no_grad():
        cast(Tensor, model.get_input_embeddings().weight).copy_(embedding)
    model.save_pretrained(chosen.folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(chosen.folder)
    path = chosen.folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    print(f"{chosen.folder}: a vocabulary of {len(kept)} tokens")


def _cut(tokenizer: dict[str, Any], n_merges: int) -> list[int]:
    """Keep the first merges and what they make, numbered anew in the old order; the old numbers."""
    model = tokenizer["model"]
    unmade = {"".join(pair) for pair in model["merges"][n_merges:]}
    made = {"".join(pair) for pair in model["merges"][:n_merges]}
    ordered = sorted(model["vocab"].items(), key=lambda entry: entry[1])
    kept = [(token, number) for token, number in ordered if token in made or token not in unmade]
    model["merges"] = model["merges"][:n_merges]
    model["vocab"] = {token: i for i, (token, _) in enumerate(kept)}
    for added in tokenizer["added_tokens"]:
        added["id"] = model["vocab"][added["content"]]
    return [number for _, number in kept]


if __name__ == "__main__":
    main()
