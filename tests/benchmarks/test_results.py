"""Kept benchmark runs: every file prints, has its fields, and keeps its digits."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import FOLDER, REQUIRED, RecordError, lines, read

ROOT = Path(__file__).parents[2]
FILES = sorted(FOLDER.glob("*.json"))
GOOD = {
    "benchmark": "made_up",
    "date": "2026-01-02",
    "command": "none",
    "commit": None,
    "commit_is": None,
    "machine": "none",
    "rows": [{"way": "a", "ms": 1}],
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_kept_run_has_the_fields_and_prints(path):
    record = read(path)
    fields = record.fields
    assert set(REQUIRED) <= set(fields)
    assert path.name.startswith(f"{datetime.date.fromisoformat(fields['date'])}-")
    assert path.name.removeprefix(f"{fields['date']}-").startswith(fields["benchmark"])
    printed = "\n".join(lines(record))
    for number in re.findall(r"(?<=[ :])-?\d+(?:\.\d+)?(?=[,}\n])", path.read_text("utf-8")):
        assert number in printed


def test_all_kept_runs_print_newest_first():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stdout.splitlines() if line.endswith(".json")]
    assert named == [path.name for path in reversed(FILES)]


def test_a_table_keeps_digits_and_shows_what_is_missing(tmp_path):
    rows = '[{"way": "one pass", "ms": 1.50}, {"way": "plain", "ms": 12.25, "note": "one run"}]'
    text = json.dumps(GOOD).replace('[{"way": "a", "ms": 1}]', rows)
    assert lines(read(written(tmp_path / "run.json", text)))[-3:] == [
        "    way          ms  note",
        "    one pass   1.50  -",
        "    plain     12.25  one run",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "rows is not a list of objects"),
        ({"rows": "none"}, "rows is not a list of objects"),
        ({"goals": [1]}, "goals is not a list of objects"),
        ({"commit": "1234567"}, "commit_is None; allowed: code, record, null"),
        ({"commit": "1234567", "commit_is": "guess"}, "commit_is 'guess'; allowed"),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path, change, message):
    path = written(tmp_path / "run.json", json.dumps(GOOD | change))
    with pytest.raises(RecordError, match=re.escape(f"{path}: {message}")):
        read(path)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(tmp_path, field):
    rest = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(RecordError, match=rf"run\.json: without {field}"):
        read(written(tmp_path / "run.json", json.dumps(rest)))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "Expecting property name"), ("[]", "not a JSON object")]
)
def test_on_the_command_line_that_is_one_line_and_status_2(tmp_path, text, message):
    path = written(tmp_path / "run.json", text)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert message in line
