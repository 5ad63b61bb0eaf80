"""What the site shows beyond the files in docs/.

- RESULTS.md, CONTRIBUTING.md and CHANGELOG.md are pages of it. They stand at the root, where a
  reader of the repository expects them, and docs/ links to them as `../RESULTS.md`. A link to
  anything else outside docs/ (a folder, a raw file) becomes its text: the site does not hold it.
- `<!-- fields of RunConfig -->` becomes a table of the settings, read off the model.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from quantum_hybrid.config import RunConfig, ServerConfig

ROOT = Path(__file__).parents[1]
PAGES = {
    "RESULTS.md": "results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
"""File of the repository -> page of the site; the README's place is taken by the first page."""
MODELS = {"RunConfig": ("--env", RunConfig), "ServerConfig": ("--openai", ServerConfig)}
FIELDS = re.compile(r"<!-- fields of (\w+) -->")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|#)[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs/ does not hold."""
    for source, page in PAGES.items():
        if page != "index.md":
            content = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links as the site has them, and with its tables of settings."""
    own = {of: source for source, of in PAGES.items() if of != "index.md"}
    path = page.file.src_uri
    source = own.get(path, f"docs/{path}")
    linked = LINK.sub(lambda link: _on_the_site(link, source, path), markdown)
    return FIELDS.sub(lambda found: settings_table(*MODELS[found[1]]), linked)


def _on_the_site(link: re.Match[str], source: str, page: str) -> str:
    path, hash_, anchor = link["target"].partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / target).exists():
        return link[0]  # mkdocs itself says what is wrong with it
    to = PAGES.get(target) or target.removeprefix("docs/")
    if to == target:
        return link["text"]
    here = posixpath.dirname(page) or "."
    return f"[{link['text']}]({posixpath.relpath(to, here)}{hash_}{anchor})"


def settings_table(section: str, model: type[RunConfig | ServerConfig]) -> str:
    """Flag, default, allowed values and meaning of every field."""
    rows = ["| flag | default | allowed | meaning |", "|---|---|---|---|"]
    for name, schema in model.model_json_schema()["properties"].items():
        default = schema.get("default")
        shown = "" if default is None else f"`{str(default).lower()}`"
        meaning = html.escape(" ".join(schema["description"].split()), quote=False)
        rows.append(f"| `{section}.{name}` | {shown} | {_allowed(schema)} | {meaning} |")
    return "\n".join(rows)


def _allowed(schema: dict[str, Any]) -> str:
    """In words, from a field's JSON schema; of a field that may be None, what else it may be."""
    schema = next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "boolean":
        return "`true`, `false`"
    low, above, high = (schema.get(k) for k in ("minimum", "exclusiveMinimum", "maximum"))
    bounds = [f"at least {low:g}"] if low is not None else []
    bounds += [f"above {above:g}"] if above is not None else []
    bounds += [f"at most {high:,}"] if high is not None else []
    return ", ".join(bounds)
