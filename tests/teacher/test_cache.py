"""The cache of answers: stored answers are returned, also after crashes and damage."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.errors import UsageError
from quantum_hybrid.teacher import AnswerCache, AnswerRequest
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Sampling

PLAIN = Answer("p", 3, "text", "stop", "m")
WITH_LOGPROBS = replace(
    PLAIN,
    logprobs=AnswerLogprobs(
        ("a", "\n"), (1, 2), ((1, 5), (2, 7)), ((-0.125, -3.0), (-0.5, -1.0)), (-0.125, -0.5)
    ),
)
"""Of numbers that a float32 holds exactly."""
WITHOUT_IDS = replace(
    PLAIN,
    logprobs=AnswerLogprobs(("a", "\udce2\udc98"), (), (), ((-0.125,), (-0.5, -1.0)), (None, -3.0)),
)
"""As OpenAI gives it, and a token that ends within a character."""
REQUEST = AnswerRequest("s", "m", "hello", Sampling(), 0)


WRITER = """
import sys
from pathlib import Path
from quantum_hybrid.text.records import Answer, Sampling
from quantum_hybrid.teacher import AnswerCache, AnswerRequest
path, name, count, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cache = AnswerCache(path)
print("open", flush=True)
if size:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for i in range(count):
    request = AnswerRequest("s", "m", f"{name}-{i}", Sampling(), 0)
    try:
        cache.put([(request, Answer("p", i, f"{name} {i} " + "x" * 1000, "stop", "m"))])
    except Exception as error:
        print("full", type(error).__name__, error, flush=True)
        break
    print("stored", i, flush=True)
print("written", flush=True)
sys.stdin.read()
cache.close()
"""


def writer(path: Path, name: str, count: int, largest_file: int = 0) -> subprocess.Popen[str]:
    """A process that stores `count` answers and prints a line after each."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count), str(largest_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def written(name: str, i: int) -> tuple[AnswerRequest, Answer]:
    """The answer that `writer` stores as number i."""
    request = replace(REQUEST, prompt_text=f"{name}-{i}")
    return request, Answer("p", i, f"{name} {i} " + "x" * 1000, "stop", "m")


@pytest.mark.parametrize("answer", [PLAIN, WITH_LOGPROBS, WITHOUT_IDS])
def test_comes_out_as_it_went_in(open_cache, answer):
    assert open_cache().put([(REQUEST, answer)]) == [answer]
    assert open_cache().get(REQUEST) == answer
    assert open_cache().get(replace(REQUEST, index=1)) is None


@settings(max_examples=25)  # each example waits for the disk
@given(text=st.text(), index=st.integers(0, 10**6))
def test_any_text_survives(tmp_path_factory, text, index):
    request = replace(REQUEST, prompt_text=text, index=index)
    answer = Answer("p", index, text, "stop", "m")
    with AnswerCache(tmp_path_factory.getbasetemp() / "any.sqlite") as cache:
        cache.put([(request, answer)])
        assert cache.get(request) == answer


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
    assert REQUEST.key != replace(REQUEST, **change).key


def test_key_does_not_depend_on_how_a_number_is_written():
    assert REQUEST.key == replace(REQUEST, sampling=Sampling(temperature=1)).key


def test_the_first_answer_stands(open_cache):
    """Two runs that request the same answer at once train on the same text."""
    one, other = open_cache(), open_cache()
    second = replace(PLAIN, text="another text")
    assert one.put([(REQUEST, PLAIN)]) == [PLAIN]
    assert other.put([(REQUEST, second), (replace(REQUEST, index=1), second)]) == [PLAIN, second]
    assert one.get(REQUEST) == PLAIN


def change(path: Path, statement: str) -> None:
    """Damage the file as another program or a failing disk would."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def insert(path: Path, schema: int, value: bytes) -> None:
    """Store a row as an earlier version did."""
    checksum = hashlib.sha256(REQUEST.canonical + b"\0" + value).hexdigest()
    connection = sqlite3.connect(path)
    row = (REQUEST.key, value, checksum, REQUEST.canonical, 0.0)
    connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)
    connection.execute(f"PRAGMA user_version = {schema}")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET value = replace(CAST(value AS TEXT), 'text', 'tent')",
        "UPDATE answers SET value = CAST(X'FFFE00' AS BLOB)",
        "UPDATE answers SET value = 17",
        "UPDATE answers SET checksum = 'no'",
        "UPDATE answers SET checksum = X'FF'",
        "UPDATE answers SET request = replace(CAST(request AS TEXT), 'hello', 'hullo')",
        "UPDATE answers SET request = 17",
        "UPDATE answers SET request = NULL",
    ],
)
def test_damaged_row_is_absent_and_can_be_overwritten(open_cache, damage):
    cache = open_cache()
    cache.put([(REQUEST, PLAIN)])
    change(cache.path, damage)
    assert cache.get(REQUEST) is None
    assert cache.corrupt_rows == 1
    cache.put([(REQUEST, PLAIN)])
    assert cache.get(REQUEST) == PLAIN
    assert cache.corrupt_rows == 1


def test_a_row_under_anothers_key_is_damaged(open_cache):
    cache = open_cache()
    cache.put([(REQUEST, PLAIN)])
    elsewhere = replace(REQUEST, index=1)
    change(cache.path, f"UPDATE answers SET key = '{elsewhere.key}'")
    assert cache.get(elsewhere) is None


def test_answers_of_the_first_schema_stay_valid(tmp_path):
    path = tmp_path / "answers.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE answers (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum TEXT NOT NULL)"
    )
    value = json.dumps(asdict(PLAIN), separators=(",", ":")).encode("ascii")
    row = (REQUEST.key, value, hashlib.sha256(value).hexdigest())
    connection.execute("INSERT INTO answers VALUES (?, ?, ?)", row)
    connection.commit()
    connection.close()
    for _ in range(2):
        with AnswerCache(path) as cache:
            assert cache.get(REQUEST) == PLAIN


def test_a_repetition_sees_the_same_digits_as_the_run_that_asked(open_cache):
    assert WITH_LOGPROBS.logprobs is not None
    logprobs = replace(WITH_LOGPROBS.logprobs, top_logprobs=((-0.1, -3.3), (-0.7, -1.1)))
    (stored,) = open_cache().put([(REQUEST, replace(WITH_LOGPROBS, logprobs=logprobs))])
    assert stored.logprobs is not None
    assert stored.logprobs.top_logprobs[0] == pytest.approx((-0.1, -3.3))
    assert stored == open_cache().get(REQUEST)


def test_answers_of_the_second_schema_stay_valid(open_cache):
    """Schema 2: log-probabilities as JSON with all digits."""
    logprobs = AnswerLogprobs.from_lists(
        ("a", "\n"), (1, 3), ((1, 5), (2, 7)), ((-0.1, -3.3), (-0.7, -1.1))
    )
    assert logprobs.token_logprobs == (-0.1, None)
    answer = replace(WITH_LOGPROBS, logprobs=logprobs)
    fields = asdict(answer)
    del fields["logprobs"]["token_logprobs"]
    value = json.dumps(fields, separators=(",", ":")).encode("ascii")
    path = open_cache().path
    insert(path, 2, value)
    with AnswerCache(path) as cache:
        assert cache.get(REQUEST) == answer
        assert cache.put([(REQUEST, PLAIN)]) == [answer]


def test_answers_of_the_third_schema_stay_valid(open_cache):
    """Schema 3: log-probabilities as bytes, without those of the sampled tokens."""
    value = json.dumps(asdict(PLAIN), separators=(",", ":")).encode("ascii")
    block = bytes.fromhex("02 0101 61 02 0105 000000be000040c0 0201 0a 02 070b 000000bf000080bf")
    path = open_cache().path
    insert(path, 3, value + b"\0" + block)
    top_ids, top_logprobs = ((1, 5), (7, 11)), ((-0.125, -3.0), (-0.5, -1.0))
    logprobs = AnswerLogprobs(("a", "\n"), (1, 2), top_ids, top_logprobs, (-0.125, None))
    with AnswerCache(path) as cache:
        cache.put([(replace(REQUEST, index=1), WITHOUT_IDS)])
        assert cache.get(REQUEST) == replace(PLAIN, logprobs=logprobs)
        assert cache.get(replace(REQUEST, index=1)) == WITHOUT_IDS
        assert cache.corrupt_rows == 0
    with sqlite3.connect(path) as connection:  # what an older program must not take for damage
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    connection.close()


@pytest.mark.parametrize("cut", ["substr(value, 1, length(value) - 1)", "value || X'00'"])
def test_damaged_log_probabilities_are_a_damaged_row(open_cache, cut):
    cache = open_cache()
    cache.put([(REQUEST, WITH_LOGPROBS)])
    change(cache.path, f"UPDATE answers SET value = CAST({cut} AS BLOB)")
    assert cache.get(REQUEST) is None
    assert cache.put([(REQUEST, WITH_LOGPROBS)]) == [WITH_LOGPROBS]


def test_a_file_of_a_later_version_is_left_alone(open_cache):
    path = open_cache().path
    change(path, "PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer version"):
        AnswerCache(path)


@pytest.mark.parametrize("n_stored", [0, 1, 7])
def test_rows_outlive_a_killed_process(tmp_path, n_stored):
    path = tmp_path / "answers.sqlite"
    with writer(path, "a", 10_000) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(n_stored + 1)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.readlines()
    stored = [line for line in acknowledged if line.startswith("stored") and line.endswith("\n")]
    with AnswerCache(path) as cache:
        assert cache.integrity_faults() == []
        for i in range(len(stored)):
            request, answer = written("a", i)
            assert cache.get(request) == answer
        assert len(list(cache.rows())) - len(stored) in (0, 1)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    """A real limit on file sizes stands for a full disk: the write fails halfway."""
    path = tmp_path / "answers.sqlite"
    with writer(path, "a", 10_000, largest_file=200_000) as process:
        output, _ = process.communicate("")
    lines = output.splitlines()
    n_stored = sum(line.startswith("stored") for line in lines)
    (full,) = [line for line in lines if line.startswith("full")]
    assert full.startswith("full QuantumHybridError")
    assert "cannot be stored" in full
    assert "answers stored before are kept" in full
    assert 10 < n_stored < 1000
    with AnswerCache(path) as cache:
        assert cache.integrity_faults() == []
        assert len(list(cache.rows())) == n_stored
        assert all(cache.get(written("a", i)[0]) == written("a", i)[1] for i in range(n_stored))
        cache.put([written("a", n_stored)])  # there is room again
        assert cache.get(written("a", n_stored)[0]) is not None


def test_two_processes_write_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    processes = [writer(path, name, 40) for name in "ab"]
    for process in processes:
        process.communicate("")
        assert process.returncode == 0
    with AnswerCache(path) as cache:
        for name in "ab":
            for i in range(40):
                request, answer = written(name, i)
                assert cache.get(request) == answer


def test_path_that_cannot_be_a_cache_is_named(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes, not a database " * 100, encoding="utf-8")
    for path in (file, file / "answers.sqlite", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            AnswerCache(path)
    assert file.read_text(encoding="utf-8").startswith("these are my notes")
