"""The records and the repository's own files agree with each other and with what they describe."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LOG = (ROOT / "docs/log.md").read_text(encoding="utf-8")
ENTRY = re.compile(r'^<a id="(?P<id>[\w-]+)"></a>\n## (?P<date>\S+): (?P<title>.+)$', re.M)
INDEX_LINE = re.compile(r"^\| (\d{4}-\d\d-\d\d) \| \[(.+)\]\(#([\w-]+)\) \| (.+) \|$", re.M)


def loaded(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    named = set(re.findall(r'<a id="([\w-]+)">', text))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return named | {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_log_s_index_lists_every_entry_with_its_verdict_newest_first():
    entries = [(m["date"], m["title"], m["id"]) for m in ENTRY.finditer(LOG)]
    index = [
        (date, f"{title} ({verdict})", id) for date, title, id, verdict in INDEX_LINE.findall(LOG)
    ]
    assert index == entries
    assert len(entries) == LOG.count("\n## ")
    dates = [date for date, _, _ in entries]
    assert dates == sorted(dates, reverse=True)
    assert len({id for _, _, id in entries}) == len(entries)


def test_every_kept_benchmark_is_in_the_log():
    kept = {path.name for path in (ROOT / "benchmarks/results").glob("*.json")}
    assert kept == set(re.findall(r"benchmarks/results/([\w.-]+\.json)", LOG))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


def test_a_result_has_its_value_command_commit_machine_and_place():
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header == "| figure | value | command | commit | machine | where |"
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 6, row
        assert all(cells) or cells[0].startswith("**"), row


def test_the_citation_is_of_the_version_in_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = loaded("CITATION.cff")
    assert (citation["version"], citation["title"]) == (project["version"], project["name"])
    assert citation["license"] == project["license"]


def test_hooks_and_workflow_run_what_make_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    check = re.search(r"^check: setup\n((?:\t.+\n)+)", makefile, re.M)
    assert check is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in check[1].splitlines()]
    (hooks,) = loaded(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in hooks["hooks"]] == commands
    steps = loaded(".github/workflows/checks.yml")["jobs"]["checks"]["steps"]
    runs = [step["run"].split()[:2] for step in steps if "run" in step]
    assert runs == [["make", "check"], ["make", "test"]]
