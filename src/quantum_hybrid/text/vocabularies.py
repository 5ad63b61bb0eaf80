"""Whether teacher and student number their tokens alike, which distillation by token requires.

Vocabularies of equal size may number their tokens differently, so the size is not compared. If both
tokenizers are available, their fingerprints are compared. Of a server's tokenizer only the texts
and ids of its answers are known; each text is compared with the student's token of that id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quantum_hybrid.text.records import SPELLED_ID, UNREADABLE, Answer, AnswerLogprobs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class VocabularyMismatch(ValueError):
    """Teacher and student number their tokens differently. The message has no full stop."""


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """First 16 hexadecimal digits of the SHA-256 of everything that maps a text to token ids.

    These are the vocabulary with its ids and added tokens, the merges, and the normaliser and
    pre-tokeniser, from the tokenizer's JSON. The order of the file, chat templates, padding and
    post-processing are left out.
    """
    parts: dict[str, Any] = {"vocabulary": sorted(tokenizer.get_vocab().items())}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        model = content["model"]
        merges = model.get("merges") or []
        parts["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
        parts["model"] = [model.get(name) for name in ("type", "byte_fallback", "ignore_merges")]
        parts["cutting"] = [content.get("normalizer"), content.get("pre_tokenizer")]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def check_fingerprints(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """The common fingerprint. Raises `VocabularyMismatch` if the fingerprints differ."""
    theirs, ours = fingerprint(teacher), fingerprint(student)
    if theirs != ours:
        raise VocabularyMismatch(
            "the teacher's vocabulary is not the student's (tokenizer fingerprints "
            f"{theirs} and {ours})"
        )
    return ours


def check_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answer]) -> int:
    """Number of tokens whose text equals the student's token of the same id.

    If a server gives ids in place of texts, the decoded ids are compared with the answers' texts.
    Raises `VocabularyMismatch` if a token differs or no answer has token ids.
    """
    known = [(a, a.logprobs) for a in answers if a.logprobs is not None and a.logprobs.token_ids]
    if not known:
        raise VocabularyMismatch(
            "the teacher sends no log-probabilities with token ids (llama.cpp does; vLLM does if "
            "started with --return-tokens-as-token-ids)"
        )
    n_same, special = 0, set(tokenizer.all_special_ids)
    pairs = [pair for _, logprobs in known for pair in _pairs(logprobs)]
    for token_id, theirs in pairs:
        ours = _text(tokenizer, token_id)
        if ours is None or not (token_id in special or _may_be(theirs, ours)):
            raise VocabularyMismatch(
                "the teacher's vocabulary is not the student's: the teacher's token "
                f"{token_id} is {theirs[:40]!r}, the student's {ours!r}"
            )
        n_same += _is_readable(theirs) and theirs.strip() == ours.strip() != ""
    if n_same == 0 and not any(spells(tokenizer, answer) for answer, _ in known):
        raise VocabularyMismatch(
            "the teacher's vocabulary is not the student's: its token ids do not decode to its "
            "answers"
        )
    return n_same


def spells(tokenizer: PreTrainedTokenizerBase, answer: Answer) -> bool:
    """Whether the student's tokenizer decodes the teacher's token ids to the answer's text."""
    logprobs, size = answer.logprobs, len(tokenizer)
    if logprobs is None or not logprobs.token_ids:
        return False
    listed = [i for ids in (logprobs.token_ids, *logprobs.top_ids) for i in ids]
    if not all(0 <= i < size for i in listed):
        return False
    text = tokenizer.decode(
        list(logprobs.token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text).strip() == answer.text.strip()


def _pairs(logprobs: AnswerLogprobs) -> Iterator[tuple[int, str]]:
    return zip(logprobs.token_ids, logprobs.tokens, strict=True)


def _text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str | None:
    """The token's text; None if the tokenizer has no such token."""
    if token_id >= len(tokenizer):
        return None
    return str(tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def _may_be(theirs: str, ours: str) -> bool:
    """Whether two texts can be the same token, up to white space at the ends.

    Some tokenizers drop that white space when they decode a single token.
    """
    if not theirs or theirs.startswith(SPELLED_ID) or not _is_readable(theirs + ours):
        return True
    return theirs.strip() == ours.strip()


def _is_readable(text: str) -> bool:
    """Whether the text consists of complete characters."""
    return UNREADABLE not in text and not any("\ud800" <= c <= "\udfff" for c in text)
