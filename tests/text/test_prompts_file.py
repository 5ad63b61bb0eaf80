"""A person's own prompts: what a file may hold, what is left out, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from quantum_hybrid.errors import UsageError
from quantum_hybrid.text.prompts_file import LONGEST_PROMPT, MOST_BYTES, read_prompts_file
from quantum_hybrid.text.records import Prompt


@pytest.fixture
def file(tmp_path) -> Callable[[str | bytes], str]:
    """Writes a file and returns its name."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "prompts"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return write


def test_plain_text_is_a_prompt_a_line(file) -> None:
    read = read_prompts_file(
        file("\ufeffWhy is the sky blue?\r\n\n  What is 2 + 2?\t\nNaïve café?")
    )
    assert read.prompts.prompts == (
        Prompt("line1", "own", "Why is the sky blue?"),
        Prompt("line3", "own", "What is 2 + 2?"),
        Prompt("line4", "own", "Naïve café?"),
    )
    assert (read.n_repeated, read.n_near_duplicates) == (0, 0)


def test_lines_of_json_have_a_text_or_a_prompt_and_may_have_an_id(file) -> None:
    rows = [
        {"text": " Why is the sky blue?\nTwo lines. ", "id": "a", "category": "science"},
        {"prompt": "What is 2 + 2?", "id": 7, "answer": {"is": [4]}},
        {"prompt": "A line\u2028that JSON does not end."},
    ]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert read_prompts_file(file(f"\n{lines}\n")).prompts.prompts == (
        Prompt("a", "science", "Why is the sky blue?\nTwo lines."),
        Prompt("7", "own", "What is 2 + 2?"),
        Prompt("line6", "own", "A line\u2028that JSON does not end."),
    )


def test_of_near_duplicates_the_first_is_kept(file) -> None:
    texts = [
        "Write a poem about the sea.",
        "Why is the sky blue?",
        "Write a poem about the sea.",
        "write a poem about the sea",
        "Why is the sky blue?",
        "Write a poem about the moon.",
        "Write a poem about the moon.",
    ]
    read = read_prompts_file(file("\n".join(texts)))
    assert [prompt.id for prompt in read.prompts.prompts] == ["line1", "line2"]
    assert (read.n_repeated, read.n_near_duplicates) == (3, 2)
    assert read.left_out == "3 repeated, 2 near-duplicates"


def test_the_record_holds_both_checksums(file) -> None:
    content = "Why is the sky blue?\nwhy is the sky blue\n"
    name = file(content)
    read = read_prompts_file(name)
    kept = b'{"id": "line1", "category": "own", "text": "Why is the sky blue?"}\n'
    assert read.as_fields() == {
        "path": name,
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "sha256_kept": hashlib.sha256(kept).hexdigest(),
        "repeated": 0,
        "near_duplicates": 1,
    }


def test_a_prompt_may_be_as_long_as_is_said(file) -> None:
    (prompt,) = read_prompts_file(file("x" * LONGEST_PROMPT)).prompts.prompts
    assert len(prompt.text) == LONGEST_PROMPT


GOOD = '{"id": "a", "text": "Why?"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Why?\nCaf\xe9?", ", line 2: is not UTF-8"),
        ("Why?\n".encode("utf-16"), ", line 1: is not UTF-8"),
        ("Why?\n\n" + "x" * 2001, ", line 3: has a prompt of 2,001 characters"),
        ("Why?\nWhat\x00?", r", line 2: holds U\+0000, which is no text"),
        ("Why?\nWhat\x1b[2J?", r", line 2: holds U\+001B, which is no text"),
        (GOOD + "Why?", ", line 2: is not JSON: Expecting value"),
        (GOOD + '{"text": "What', ", line 2: is not JSON: Unterminated string"),
        (GOOD + "[" * 100_000, ", line 2: is not JSON: its values are too large"),
        (GOOD + "9" * 5000, ", line 2: is not JSON: its values are too large"),
        (GOOD + '["What?"]', ", line 2: must be a JSON object"),
        (GOOD + "{}", ", line 2: must have either `text` or `prompt`"),
        (GOOD + '{"text": "A?", "prompt": "B?"}', ", line 2: must have either `text` or"),
        (GOOD + '{"text": 7}', ", line 2: must have either `text` or `prompt`"),
        (GOOD + '{"text": " "}', ", line 2: must have either `text` or `prompt`, which must not"),
        (GOOD + '{"text": "What?", "id": null}', ", line 2: `id` must be text or a whole number"),
        (GOOD + '{"text": "What?", "id": true}', ", line 2: `id` must be text or a whole number"),
        (GOOD + '{"text": "What?", "id": ""}', ", line 2: `id` must be text or a whole number"),
        (GOOD + '{"text": "What?", "category": 1}', ", line 2: `category` must be text"),
        (GOOD + '{"text": "Wh\\ud800at?"}', r", line 2: holds U\+D800, which is no text"),
        (GOOD + '{"text": "What?", "id": "a"}', ", line 2: the id 'a' is that of line 1"),
        (GOOD + '\n{"text": "A?", "id": "line4"}\n{"text": "B?"}', ", line 4: the id 'line4' is"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(file, content, message) -> None:
    name = file(content)
    with pytest.raises(UsageError, match=f"^`prompts` '{name}'{message}") as raised:
        read_prompts_file(name)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_opened_or_has_no_end_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="absent': cannot be read: No such file or directory"):
        read_prompts_file(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="': cannot be read: Is a directory"):
        read_prompts_file(str(tmp_path))
    with pytest.raises(UsageError, match=f"'/dev/zero': is larger than {MOST_BYTES >> 20} MiB"):
        read_prompts_file("/dev/zero")
    with pytest.raises(UsageError, match="'~nobody-here/p': no home directory is known"):
        read_prompts_file("~nobody-here/p")


def test_an_empty_file_holds_no_prompts() -> None:
    """How many prompts a run needs is the run's to check."""
    assert read_prompts_file("/dev/null").prompts.prompts == ()
