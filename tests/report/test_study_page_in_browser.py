"""The page of a study in Chromium, opened from its file: wide and narrow, light, dark and in print.

Chromium is the system's; without one these tests are skipped.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from example_study import study, unfinished
from misbehaving_server import ACTING
from quantum_hybrid.report.study_page import write_study_page
from quantum_hybrid.report.study_results import ArmFacts, Sample, StudyResults, TextFacts

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium: none of {', '.join(NAMES)}"),
]
SIZES = {"phone": (360, 740), "desktop": (1200, 900), "paper": (718, 1000)}
"""The paper is A4 with margins of a centimetre, in CSS pixels."""
SCHEMES = ("light", "dark")
HOSTILE = (
    "</div></details></svg><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)>"
    "<svg onload=alert(3)><iframe src='javascript:alert(4)'></iframe><style>*{color:red}</style>"
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><base href=http://127.0.0.1:9/>"
) + ACTING


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page in the browser, and all that it did besides being shown."""

    def __init__(self, browser: Browser, path: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.acts: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.acts.append(message.text))
        self.page.on("pageerror", lambda error: self.acts.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("popup", lambda popup: self.acts.append(popup.url))
        self.page.goto(path.as_uri())

    def _dismiss(self, dialog: Dialog) -> None:
        self.acts.append(dialog.message)
        dialog.dismiss()


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("study"), hostile_study())


def written(folder: Path, results: StudyResults) -> Path:
    path = folder / "study.html"
    write_study_page(results, path, refresh_seconds=1)
    return path


def hostile_study() -> StudyResults:
    """A complete study with a hostile prompt and arm."""
    whole = study(("alone", "beside", "weak"), 20)
    sample = Sample(HOSTILE, HOSTILE * 1000)
    text = replace(whole.text or TextFacts("", "", {}, {}, {}), samples=(sample,))
    arms = (*whole.arms, ArmFacts(f"mine {HOSTILE}", HOSTILE, 10**12, 10**12))
    return study(("alone", "beside", "weak"), 20, arms=arms, text=text, notes=(HOSTILE,))


SCREENS = [(size, scheme) for size in ("phone", "desktop") for scheme in SCHEMES]


@pytest.fixture(scope="module", params=SCREENS, ids="-".join)
def opened(request: pytest.FixtureRequest, browser: Browser, complete: Path) -> Iterator[Opened]:
    opened = Opened(browser, complete, *request.param)
    yield opened
    opened.context.close()


def test_the_page_asks_for_nothing_and_does_nothing(opened, complete):
    opened.page.locator("summary").first.click()
    expect(opened.page.get_by_role("heading", level=1)).to_have_text("Does the circuit help?")
    assert opened.requests == [complete.as_uri()]
    assert opened.acts == []


def test_the_page_does_not_scroll_sideways(opened):
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *')]
            .filter(one => !one.closest('.wide, .unseen, thead, svg') && one.checkVisibility())
            .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
            .map(one => one.outerHTML.slice(0, 100))"""
    )
    assert outside == []


CONTRASTS = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const [r, g, b] = numbers(color).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = getComputedStyle(document.body).backgroundColor;
  const ratio = color => {
    const [low, high] = [luminance(color), luminance(ground)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = {text: [], lines: [], grounds: new Set()};
  for (const one of document.querySelectorAll('body *')) {
    const style = getComputedStyle(one);
    const isText = [...one.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (isText && !one.closest('title, desc')) {
      const color = one.closest('svg') ? style.fill : style.color;
      found.text.push([ratio(color), color, one.outerHTML.slice(0, 80)]);
      if (!one.closest('.swatch')) found.grounds.add(style.backgroundColor);
    }
    if (one.matches('polyline, .interval, circle') && style.color.startsWith('rgb'))
      found.lines.push([ratio(style.color), style.color, one.outerHTML.slice(0, 80)]);
  }
  return {...found, grounds: [...found.grounds], ground};
}"""


def test_text_and_lines_stand_out_in_both_schemes(opened, request):
    found = opened.page.evaluate(CONTRASTS)
    dark = "dark" in request.node.callspec.id
    assert found["ground"] == ("rgb(20, 23, 28)" if dark else "rgb(253, 252, 250)")
    assert found["grounds"] == ["rgba(0, 0, 0, 0)"]  # All text stands on the page's own ground.
    assert len(found["text"]) > 1000
    assert [row for row in found["text"] if row[0] < 4.5] == []
    assert len(found["lines"]) > 100
    assert [row for row in found["lines"] if row[0] < 3] == []


def test_every_figure_is_an_image_with_a_name_of_its_own(opened):
    figures = opened.page.locator("svg:not(svg svg)")
    session = opened.context.new_cdp_session(opened.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")]
    names = [node["name"]["value"] for node in images]
    assert len(names) == figures.count() == 3 * 15 + 3 + 1
    assert all(names)
    assert all(node["description"]["value"] for node in images)
    expect(opened.page.get_by_role("img", name="Learning curves, alone")).to_be_visible()


def test_tables_stay_tables_for_a_screen_reader(opened):
    table = opened.page.get_by_role("table", name=re.compile("^Alone: loss of each rival"))
    expect(table.get_by_role("rowheader")).to_have_count(14)
    row = table.get_by_role("row").filter(has_text="identity")
    expect(row).to_contain_text("circuit worse")
    losses = opened.page.get_by_role(
        "table", name=re.compile("^Alone: held-out loss of each arm in")
    )
    expect(losses.get_by_role("rowheader")).to_have_count(15)


def test_labels_of_lines_do_not_overlap(opened):
    boxes = opened.page.evaluate(
        """() => [...document.querySelectorAll('.lines')].map(figure =>
            [...figure.querySelectorAll('.labels text')].map(text => {
              const box = text.getBoundingClientRect();
              return [box.top, box.bottom];
            }))"""
    )
    assert len(boxes) == 4
    for figure in boxes:
        assert len(figure) >= 3
        ordered = sorted(figure)
        overlaps = [above for above, below in pairwise(ordered) if above[1] > below[0] + 1]
        assert overlaps == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_in_print_colours_are_light_and_everything_is_open(browser, complete, scheme):
    opened = Opened(browser, complete, "paper", scheme)
    page = opened.page
    text = page.locator(".text.prompt")
    expect(text).to_be_hidden()
    page.emulate_media(media="print")
    expect(text).to_be_visible()
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 250)"
    unbroken = page.evaluate(
        """() => [...document.querySelectorAll('figure, tr, svg:not(svg svg)')]
            .every(one => getComputedStyle(one).breakInside === 'avoid')"""
    )
    assert unbroken
    assert page.evaluate("document.documentElement.scrollWidth") == 718
    assert page.pdf(format="A4").startswith(b"%PDF")
    opened.context.close()


def test_an_unfinished_page_reloads_itself_until_it_is_complete(browser, tmp_path):
    path = written(tmp_path, unfinished())
    opened = Opened(browser, path, "desktop", "light")
    heading = opened.page.locator("#verdict h2")
    expect(heading).to_have_text("The study is not finished")
    write_study_page(study(), path)
    expect(heading).to_have_text("The verdict", timeout=20_000)
    assert opened.page.locator("meta[http-equiv=refresh]").count() == 0
    assert set(opened.requests) == {path.as_uri()}
    assert opened.acts == []
    opened.context.close()
