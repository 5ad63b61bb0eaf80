"""Whether a teacher's token numbers mean what the student's do, which learning from them needs.

Vocabularies of one size may number their tokens differently, so it is not the size that is
compared. Where both tokenizers are at hand, their fingerprints are; of a server's nothing is known
but what it writes, so the text that it gives with each token's number is held against the student's
token of that number.
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
    """Why a teacher's token numbers cannot be taken for the student's, without a full stop."""


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hexadecimal digits of the SHA-256 of all that decides which numbers a text becomes.

    That is the vocabulary with its numbers, added tokens included, the merges, and how text is
    normalised and cut up beforehand, as the tokenizer's JSON gives them. The file's order, chat
    templates, padding and what surrounds a text do not count.
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
    """The fingerprint that both have; `VocabularyMismatch` if they differ."""
    theirs, ours = fingerprint(teacher), fingerprint(student)
    if theirs != ours:
        raise VocabularyMismatch(
            "the teacher's vocabulary is not the student's (tokenizer fingerprints "
            f"{theirs} and {ours})"
        )
    return ours


def check_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answer]) -> int:
    """How many tokens' texts were found to be the student's.

    A server that gives numbers in place of texts is taken at its answers' whole texts. Raises
    `VocabularyMismatch` if a token is another, or if no answer comes with its tokens' numbers.
    """
    known = [(a, a.logprobs) for a in answers if a.logprobs is not None and a.logprobs.token_ids]
    if not known:
        raise VocabularyMismatch(
            "the teacher gives no log-probabilities with its tokens' numbers (llama.cpp does; vLLM "
            "where it was started with --return-tokens-as-token-ids)"
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
            "the teacher's vocabulary is not the student's: the numbers of its tokens spell other "
            "texts than its answers"
        )
    return n_same


def spells(tokenizer: PreTrainedTokenizerBase, answer: Answer) -> bool:
    """Whether the teacher's token numbers spell its answer in the student's vocabulary."""
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
    """None if the tokenizer has no such token."""
    if token_id >= len(tokenizer):
        return None
    return str(tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def _may_be(theirs: str, ours: str) -> bool:
    """White space at the ends is no difference: some tokenizers drop it from a token by itself."""
    if not theirs or theirs.startswith(SPELLED_ID) or not _is_readable(theirs + ours):
        return True
    return theirs.strip() == ours.strip()


def _is_readable(text: str) -> bool:
    """Whether it is whole characters: a part of one has no text of its own."""
    return UNREADABLE not in text and not any("\ud800" <= c <= "\udfff" for c in text)
