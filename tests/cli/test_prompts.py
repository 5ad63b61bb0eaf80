"""`prompts`: a file of prompts that the embedded teacher has written."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from quantum_hybrid.cli import main
from quantum_hybrid.paths import cache_directory

ATROPOS = Path(__file__).parents[2] / "atropos.py"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """A cache without answers, and with the model."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "models").symlink_to(cache_directory() / "models")
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(folder))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0", "p"], "--count: invalid value '0': must be a whole number from 1 to"),
        (["--count", "-1", "p"], "--count: invalid value '-1': must be a whole number from 1"),
        (["--count", "many", "p"], "--count: invalid value 'many': must be a whole number"),
        (["--count", "100001", "p"], "--count: invalid value '100001': must be a whole number"),
        (["--count", "9", "--seed", "2147483648", "p"], "--seed: invalid value '2147483648'"),
        (["p"], "the following arguments are required: --count"),
        (["--count", "9"], "the following arguments are required: FILE"),
        (["--count", "9", "there"], "there: exists; name a new file"),
        (["--count", "9", "."], ".: exists; name a new file"),
        (["--count", "9", "absent/p"], "absent/p: cannot be written: No such file or directory"),
        (["--count", "9", "there/p"], "there/p: cannot be written: Not a directory"),
        (["--count", "9", "~nobody-here/p"], "FILE '~nobody-here/p': no home directory is known"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("mine", encoding="utf-8")
    assert main(["prompts", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert Path("there").read_text(encoding="utf-8") == "mine"


@pytest.mark.slow
def test_a_longer_file_begins_with_the_shorter_one(empty_cache, tmp_path, capsys) -> None:
    files = [tmp_path / "short.jsonl", tmp_path / "long.jsonl"]
    for count, file in zip(("2", "4"), files, strict=True):
        assert main(["prompts", "--count", count, str(file)]) == 0
        (empty_cache / "answers.sqlite").unlink()  # so that the second file is written anew
    short, long = (file.read_text(encoding="utf-8").splitlines() for file in files)
    assert (len(short), len(long)) == (2, 4)
    assert long[:2] == short
    rows = [json.loads(line) for line in long]
    assert all(set(row) == {"id", "category", "text"} for row in rows)
    assert len({row["id"] for row in rows}) == 4
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "writing 2 prompts with the embedded teacher"
    assert said[1].startswith(f"{files[0]}: 2 prompts from ")


@pytest.mark.slow
def test_an_interrupted_file_is_not_there_and_what_was_written_is_kept(
    empty_cache, tmp_path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    script = (
        "import signal, sys\n"
        # A shell's background job ignores SIGINT, and so would this process.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from quantum_hybrid.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "prompts", "--count", "5000", "p.jsonl"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        while n_kept(empty_cache) == 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=900)
    assert process.returncode == 130, errors
    assert errors.startswith("error: interrupted; ")
    assert errors.endswith("the same command goes on from there\n")
    assert errors.count("\n") == 1
    assert list(folder.iterdir()) == []
    assert n_kept(empty_cache) > 0


def n_kept(cache: Path) -> int:
    """Number of answers in the cache."""
    try:
        uri = f"file:{cache / 'answers.sqlite'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:  # It has not been created yet.
        return 0
