"""Console output: no text can act on the terminal or imitate another line."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from misbehaving_server import ACTING
from quantum_hybrid.run.console import Console


def test_the_console_prints_and_logs_nothing_that_acts(tmp_path: Path, capsys) -> None:
    with Console(tmp_path / "log.txt") as console:
        console.line(f"first   {ACTING}row\n[bold]second[/bold] :fire: {'x' * 5000}")
        console.log(f"logged {ACTING}")
        console.advance(1, f"loss {ACTING}")
    printed = capsys.readouterr().out
    for text in (printed, (tmp_path / "log.txt").read_text(encoding="utf-8")):
        rows = text.split("\n")
        assert all(row.isprintable() for row in rows)
        assert max(map(len, rows)) < 2100
        assert "[bold]second[/bold] :fire: xxx" in text
    assert len(printed.splitlines()) == 3
    assert len((tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()) == 4


def test_the_bar_takes_no_text_for_markup(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Console(tmp_path / "log.txt") as console:
        console.start_progress(2, 0)
        console.advance(1, "[red]loss[/red] \u202e")
    printed = capsys.readouterr().out
    assert "[red]loss[/red]" in printed
    assert "\u202e" not in printed


def test_a_terminal_that_cannot_spell_a_character_gets_its_number(tmp_path, monkeypatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with Console(tmp_path / "log.txt") as console:
        console.line("schön")
        sys.stdout.flush()
    assert written.getvalue() == b"sch\\xf6n\n"
    assert "schön" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_reader_that_goes_away_is_an_error_that_the_log_names(tmp_path, monkeypatch) -> None:
    """Rich by itself ends the program with `SystemExit`, in silence."""
    nobody_reads, written = os.pipe()
    os.close(nobody_reads)
    with Console(tmp_path / "log.txt") as console:
        with open(written, "w", encoding="utf-8", buffering=1) as output:
            monkeypatch.setattr(sys, "stdout", output)
            with pytest.raises(BrokenPipeError):
                console.line("step 1")
            os.dup2(os.open(os.devnull, os.O_WRONLY), written)
        monkeypatch.undo()
    logged = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "step 1" in logged
    assert "nobody reads the output any more" in logged
