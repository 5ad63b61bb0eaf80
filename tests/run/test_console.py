"""Console output: no text can act on the terminal or imitate another line."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from misbehaving_server import ACTING
from quantum_hybrid.errors import Interrupted, ReaderGone
from quantum_hybrid.run.console import Console
from quantum_hybrid.run.stop import StopRequest


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


@contextmanager
def nobody_reads() -> Iterator[None]:
    """Standard output is a pipe whose reader has closed it."""
    reader, written = os.pipe()
    os.close(reader)
    with open(written, "w", encoding="utf-8", buffering=1) as output, redirect_stdout(output):
        yield
        os.dup2(os.open(os.devnull, os.O_WRONLY), written)


def test_a_reader_that_goes_away_is_one_error_and_the_log_goes_on(tmp_path) -> None:
    """Rich by itself ends the program with `SystemExit`, in silence."""
    with nobody_reads(), Console(tmp_path / "log.txt") as console:
        with pytest.raises(ReaderGone):
            console.line("step 1")
        console.line("what the teacher was asked")
    logged = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert [line[20:] for line in logged.splitlines()] == ["step 1", "what the teacher was asked"]


def test_a_signal_that_ends_the_reader_too_stops_the_run(tmp_path) -> None:
    """As Ctrl-C does with `| tee`."""
    unforeseen = []

    async def run(console: Console) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unforeseen.append(what))
        stop = StopRequest(console.line)
        with stop.listening():
            os.kill(os.getpid(), signal.SIGINT)
            await stop.unless(asyncio.sleep(60))

    with (
        nobody_reads(),
        Console(tmp_path / "log.txt") as console,
        pytest.raises(Interrupted),
    ):
        asyncio.run(run(console))
    assert unforeseen == []
    assert "SIGINT: stopping after" in (tmp_path / "log.txt").read_text(encoding="utf-8")
