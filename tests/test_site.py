"""The documentation builds by the command of `make docs`; the site works offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from documents import ROOT

ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio|embed|object|form)\b[^>]*"
    r"""\b(?:src|href|data|action|srcset)=["'](?:https?:)?//[^"']*""",
    re.I,
)
"""Something that a browser fetches by itself; a link that a reader follows is none."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    nothing_to_reach = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = os.environ | nothing_to_reach | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, str]:
    found = {str(path.relative_to(site)): path for path in site.rglob("*.html")}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def test_make_docs_builds_it(site):
    """The fixture's command equals the Makefile's."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\n\tNO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict\n" in makefile


def test_every_page_of_the_contents_is_there(pages):
    entries = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    targets = [target for entry in entries for target in _targets(entry)]
    of_studies = {name for name in pages if name.startswith("studies/")}
    assert of_studies == {"studies/teacher/study-page.html"}
    targets = {target.replace(".md", ".html") for target in targets}
    assert targets | of_studies | {"404.html"} == set(pages)


def _targets(entry: dict) -> list[str]:
    (value,) = entry.values()
    return [value] if isinstance(value, str) else [t for one in value for t in _targets(one)]


def test_a_browser_fetches_nothing_from_elsewhere(site, pages):
    for name, text in pages.items():
        assert ELSEWHERE.findall(text) == [], name
        # The theme's script would fetch this one library for it.
        assert 'class="mermaid"' not in text
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), style.name


def test_what_a_browser_would_fetch_is_found():
    assert ELSEWHERE.search('<link rel="stylesheet" href="https://fonts.example/css">')
    assert ELSEWHERE.search("<script async src='//cdn.example/x.js'>")
    assert not ELSEWHERE.search('<a href="https://example.org/">there</a>')


def test_the_search_works_from_a_file(site):
    """Index and worker are scripts, because a page opened from a file may not read files."""
    script = (site / "search/search_index.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("var __index = "))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"index.html", "results.html", "api/circuit.html", "glossary.html"} <= found
    assert (site / "assets/iframe-worker.js").is_file()


def test_every_setting_stands_in_the_table(pages):
    from quantum_hybrid.cli.flags import OURS

    assert [flag for flag in OURS if f"<code>{flag}</code>" not in pages["api/settings.html"]] == []


def test_no_page_names_a_path_of_this_machine(pages):
    for name, text in pages.items():
        assert str(ROOT) not in text, name
