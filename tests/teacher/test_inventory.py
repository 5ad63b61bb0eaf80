"""`quantum-hybrid cache`: ls, verify, export and gc."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from quantum_hybrid.cli import main
from quantum_hybrid.teacher import AnswerCache, AnswerRequest
from quantum_hybrid.text.records import Answer, AnswerLogprobs, Sampling

REQUEST = AnswerRequest("https://a.example/v1", "big", "Say \x1b[31mred.", Sampling(), 0)
ANSWER = Answer("p", 0, "<script>\x1b]0;title\x07</script> é", "stop", "big")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A cache with four answers of two models, one of them empty."""
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path))
    path = tmp_path / "answers.sqlite"
    other = replace(REQUEST, model="sm\x1ball")
    with AnswerCache(path) as cache:
        cache.put([(replace(REQUEST, index=i), replace(ANSWER, index=i)) for i in range(2)])
        cache.put([(other, ANSWER)])
        cache.put([(replace(other, index=1), replace(ANSWER, text="", finish_reason="empty"))])
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def damage_one(path: Path) -> None:
    change(path, f"UPDATE answers SET value = X'00' WHERE key = '{REQUEST.key}'")


def test_ls_counts_by_model_and_shows_no_control_characters(store, capsys) -> None:
    damage_one(store)
    assert main(["cache", "ls"]) == 0
    shown = capsys.readouterr().out
    rows = [" ".join(line.split()[:1] + line.split()[4:]) for line in shown.splitlines()[1:-1]]
    assert rows == [
        "0 ?, (stored before servers were recorded); 1 damaged",
        "1 big, https://a.example/v1",
        "1 sm all, https://a.example/v1; 1 without text",
    ]
    assert str(store) in shown
    assert "\x1b" not in shown


def test_verify_says_whether_all_is_well(store, capsys) -> None:
    assert main(["cache", "verify"]) == 0
    assert "all 4 answers are as they were stored" in capsys.readouterr().out
    damage_one(store)
    assert main(["cache", "verify"]) == 1
    error = capsys.readouterr().err
    assert "1 of 4 answers are damaged" in error
    assert error.count("\n") == 1


def test_verify_finds_a_damaged_file(store, capsys) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(store.read_bytes())
    content[4096:4196] = b"\xff" * 100  # the head of the second page
    store.write_bytes(content)
    assert main(["cache", "verify"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_export_writes_what_was_asked_and_answered(store, tmp_path, capsys) -> None:
    target = tmp_path / "answers.jsonl"
    damage_one(store)
    assert main(["cache", "export", str(target)]) == 0
    assert "3 answers" in capsys.readouterr().out
    content = target.read_bytes()
    assert content.isascii()
    assert b"\x1b" not in content
    rows = [json.loads(line) for line in content.splitlines()]
    row = next(row for row in rows if row["key"] == replace(REQUEST, index=1).key)
    assert Answer.from_fields(row["answer"]) == replace(ANSWER, index=1)
    assert row["request"]["prompt_text"] == REQUEST.prompt_text
    assert row["request"]["server_identity"] == REQUEST.server_identity
    assert main(["cache", "export", str(target)]) == 2
    assert "exists" in capsys.readouterr().err
    assert target.read_bytes() == content


def test_export_spells_half_a_character_in_ascii(store, tmp_path) -> None:
    logprobs = AnswerLogprobs(("\udce2\udc98", "\udc95"), (), (), ((-0.5,),) * 2, (-0.5, None))
    answer = replace(ANSWER, text="☕", logprobs=logprobs)
    with AnswerCache(store) as cache:
        cache.put([(replace(REQUEST, index=7), answer)])
    target = tmp_path / "answers.jsonl"
    assert main(["cache", "export", str(target)]) == 0
    rows = [json.loads(line)["answer"] for line in target.read_text("ascii").splitlines()]
    assert answer in [Answer.from_fields(row) for row in rows]


def test_gc_removes_what_no_run_can_use_and_nothing_else(store, capsys) -> None:
    damage_one(store)
    assert main(["cache", "gc", "--dry-run"]) == 0
    assert "would remove 1 damaged, 1 without text" in capsys.readouterr().out
    with AnswerCache(store) as cache:
        assert len(list(cache.rows())) == 4
    assert main(["cache", "gc"]) == 0
    assert "removed 1 damaged, 1 without text" in capsys.readouterr().out
    with AnswerCache(store) as cache:
        assert len(list(cache.rows())) == 2
        assert cache.get(replace(REQUEST, index=1)) == replace(ANSWER, index=1)
        assert cache.get(REQUEST) is None


def test_gc_leaves_a_row_that_was_mended_meanwhile(store) -> None:
    damage_one(store)
    with AnswerCache(store) as cache:
        cache.put([(REQUEST, ANSWER)])
        cache.remove([REQUEST.key], lambda row: False)
        assert cache.get(REQUEST) == ANSWER


@pytest.mark.parametrize("action", [["ls"], ["verify"], ["export", "x"], ["gc"]])
def test_without_a_store_nothing_is_made(tmp_path, monkeypatch, capsys, action) -> None:
    monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path / "none"))
    assert main(["cache", *action]) == 2
    assert "no answers are kept there yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
