"""The store of answers: what is put in comes out, after crashes and damage too."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.errors import UsageError
from quantum_hybrid.records import Answer, AnswerLogprobs, Sampling
from quantum_hybrid.teacher.cache import AnswerCache, answer_key

PLAIN = Answer("p", 3, "text", "stop", "m")
WITH_LOGPROBS = replace(
    PLAIN,
    logprobs=AnswerLogprobs(("a", "\n"), (1, 2), ((1, 5), (2, 7)), ((-0.1, -3.0), (-0.5, -1.0))),
)
REQUEST: dict[str, Any] = {
    "server_identity": "s",
    "model": "m",
    "prompt_text": "hello",
    "sampling": Sampling(),
    "index": 0,
}


def key_of(**changes: Any) -> str:
    return answer_key(**(REQUEST | changes))


WRITER = """
import sys
from pathlib import Path
from typing import Any
from quantum_hybrid.records import Answer
from quantum_hybrid.teacher.cache import AnswerCache
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cache = AnswerCache(path)
for i in range(count):
    cache.put(f"{name}-{i}", Answer("p", i, f"{name} {i}", "stop", "m"))
print("written", flush=True)
sys.stdin.read()
cache.close()
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("answer", [PLAIN, WITH_LOGPROBS])
def test_comes_out_as_it_went_in(open_cache, answer):
    open_cache().put("k", answer)
    assert open_cache().get("k") == answer
    assert open_cache().get("other") is None


@settings(max_examples=25)  # each example waits for the disk
@given(text=st.text(), index=st.integers(0, 10**6))
def test_any_text_survives(tmp_path_factory, text, index):
    answer = Answer("p", index, text, "stop", "m")
    with AnswerCache(tmp_path_factory.getbasetemp() / "any.sqlite") as cache:
        cache.put("k", answer)
        assert cache.get("k") == answer


@pytest.mark.parametrize(
    "change",
    [
        {"server_identity": "t"},
        {"model": "n"},
        {"prompt_text": "hello "},
        {"index": 1},
        *({"sampling": Sampling(**{name: 9})} for name in Sampling.__dataclass_fields__),
    ],
    ids=str,
)
def test_everything_that_is_asked_is_in_the_key(change):
    assert key_of() != key_of(**change)


def test_key_does_not_depend_on_how_a_number_is_written():
    whole = Sampling(temperature=1)
    assert key_of() == key_of(sampling=whole)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET value = replace(CAST(value AS TEXT), 'text', 'tent')",
        "UPDATE answers SET value = CAST(X'FFFE00' AS BLOB)",
        "UPDATE answers SET value = 17",
        "UPDATE answers SET checksum = 'no'",
        "UPDATE answers SET checksum = X'FF'",
    ],
)
def test_damaged_row_is_absent_and_can_be_overwritten(open_cache, damage):
    cache = open_cache()
    cache.put("k", PLAIN)
    connection = sqlite3.connect(cache.path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    assert cache.get("k") is None
    assert cache.corrupt_rows == 1
    cache.put("k", PLAIN)
    assert cache.get("k") == PLAIN
    assert cache.corrupt_rows == 1


def test_rows_outlive_a_killed_process(tmp_path):
    path = tmp_path / "answers.sqlite"
    process = writer(path, "a", 5)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    with AnswerCache(path) as cache:
        assert [cache.get(f"a-{i}") for i in range(5)] == [
            Answer("p", i, f"a {i}", "stop", "m") for i in range(5)
        ]


def test_two_processes_write_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    processes = [writer(path, name, 40) for name in "ab"]
    for process in processes:
        process.communicate("")
        assert process.returncode == 0
    with AnswerCache(path) as cache:
        for name in "ab":
            for i in range(40):
                answer = cache.get(f"{name}-{i}")
                assert answer is not None
                assert answer.text == f"{name} {i}"


def test_path_that_cannot_be_a_cache_is_named(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes, not a database " * 100)
    for path in (file, file / "answers.sqlite", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            AnswerCache(path)
    assert file.read_text().startswith("these are my notes")
