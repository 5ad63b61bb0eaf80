"""A person's own prompts: from a file to a `PromptSet`, without near-duplicates.

    read_prompts_file("prompts.txt").prompts

The file is UTF-8, of one of two kinds. If its first character that is no white space is `{`, each
line is a JSON object with `text` or `prompt`, and if need be `id` and `category`; other fields are
ignored. Otherwise each line is a prompt. Blank lines are skipped, and white space around a prompt
is removed. A prompt without an id is named after its line.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from quantum_hybrid.errors import UsageError
from quantum_hybrid.shown import shown
from quantum_hybrid.text.duplicates import NearDuplicates
from quantum_hybrid.text.prompts import PromptSet
from quantum_hybrid.text.records import Prompt
from quantum_hybrid.text.utf8_file import read_utf8

LONGEST_PROMPT = 2000
"""Characters of a prompt. In English they are about 512 tokens, for which the embedded teacher has
room; in a language that takes more tokens it may refuse a prompt of this length."""
MOST_BYTES = 16 * 2**20
CATEGORY = "own"
"""Category of a prompt that names none."""


@dataclass(frozen=True)
class PromptsFile:
    """What was read from a file of prompts."""

    path: str
    """As the user named it."""
    sha256: str
    """Of the file's content."""
    prompts: PromptSet
    """The first of each group of near-duplicates, over all parts of the split."""
    n_repeated: int
    """Number of prompts left out because an earlier one has the same text."""
    n_near_duplicates: int
    """Number of prompts left out as near-duplicates of an earlier one."""

    @property
    def left_out(self) -> str:
        """The numbers of prompts that were left out, in words."""
        return f"{self.n_repeated} repeated, {self.n_near_duplicates} near-duplicates"

    def as_fields(self) -> dict[str, Any]:
        """The record in a run's config.json."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "sha256_kept": hashlib.sha256(self.prompts.as_lines()).hexdigest(),
            "repeated": self.n_repeated,
            "near_duplicates": self.n_near_duplicates,
        }


def read_prompts_file(named: str) -> PromptsFile:
    """Read and check the file that the setting `prompts` names.

    Raises `UsageError`, which names the setting, the file and the line.
    """
    field = f"`prompts` {named!r}"
    content, text = read_utf8(named, field, MOST_BYTES)
    prompts = list(_parsed(text, field))
    kept, n_repeated = _distinct(prompts)
    return PromptsFile(
        path=named,
        sha256=hashlib.sha256(content).hexdigest(),
        prompts=PromptSet(tuple(kept), named),
        n_repeated=n_repeated,
        n_near_duplicates=len(prompts) - len(kept) - n_repeated,
    )


def _parsed(text: str, field: str) -> Iterator[Prompt]:
    """The prompts of the file, in order; each id once."""
    is_json = text.lstrip().startswith("{")
    line_of: dict[str, int] = {}
    # Not splitlines: JSON may hold the other ends of lines, such as U+2028, within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{field}, line {number}"
        name = f"line{number}"
        prompt = _of_object(line, name, where) if is_json else Prompt(name, CATEGORY, line.strip())
        _check_text(prompt.text, where)
        if prompt.id in line_of:
            raise UsageError(
                f"{where}: the id {shown(prompt.id)!r} is that of line {line_of[prompt.id]}"
            )
        line_of[prompt.id] = number
        yield prompt


def _of_object(line: str, name: str, where: str) -> Prompt:
    """The prompt of a line of JSON; `name` is its id if it has none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = (
            error.msg if isinstance(error, json.JSONDecodeError) else "its values are too large"
        )
        raise UsageError(f"{where}: is not JSON: {reason}") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: must be a JSON object")
    texts = [fields[key] for key in ("text", "prompt") if key in fields]
    if len(texts) != 1 or not isinstance(texts[0], str) or not texts[0].strip():
        raise UsageError(f"{where}: must have either `text` or `prompt`, which must not be empty")
    own = fields.get("id", name)
    category = fields.get("category", CATEGORY)
    if isinstance(own, bool) or not isinstance(own, (str, int)) or own == "":
        raise UsageError(f"{where}: `id` must be text or a whole number")
    if not isinstance(category, str):
        raise UsageError(f"{where}: `category` must be text")
    return Prompt(str(own), category, texts[0].strip())


def _check_text(text: str, where: str) -> None:
    if len(text) > LONGEST_PROMPT:
        raise UsageError(
            f"{where}: has a prompt of {len(text):,} characters, must have at most "
            f"{LONGEST_PROMPT:,}"
        )
    for character in text:
        # Control characters, and halves of surrogate pairs, which UTF-8 cannot spell.
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            raise UsageError(f"{where}: holds U+{ord(character):04X}, which is no text")


def _distinct(prompts: Iterable[Prompt]) -> tuple[list[Prompt], int]:
    """The first of each group of near-duplicates, and how many prompts repeat a text."""
    texts: set[str] = set()
    seen, kept, n_repeated = NearDuplicates(), list[Prompt](), 0
    for prompt in prompts:
        if prompt.text in texts:
            n_repeated += 1
        elif seen.add(prompt.text) is None:
            kept.append(prompt)
        texts.add(prompt.text)
    return kept, n_repeated
