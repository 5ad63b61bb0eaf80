"""Colours, numbers, axes and lines of a study's page, and its tables."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_study import SCALING, study, unfinished, with_diverged
from quantum_hybrid.report.study_page import ARM_COLORS, numbers, write_study_tables
from quantum_hybrid.report.study_page.axis import Axis, reach
from quantum_hybrid.report.study_page.colors import DARK, LIGHT, arm_class, color_of
from quantum_hybrid.report.study_page.lines import MOST_POINTS, spread, thinned
from quantum_hybrid.study.arms import ARMS

TEXT, GRAPHICS = 4.5, 3.0
"""Contrast that WCAG 2.2 asks for, criteria 1.4.3 and 1.4.11."""
THEMES = {"light": LIGHT, "dark": DARK}
TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                   [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                   [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
SEEN_WITH = {
    "trichromacy": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
"""Linear sRGB as it is seen: Machado, Oliveira & Fernandes 2009, doi:10.1109/TVCG.2009.113."""


def linear(color: str) -> np.ndarray:
    """Linear sRGB of #rrggbb or oklch(L C H), the latter after Ottosson 2020."""
    if color.startswith("#"):
        values = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    lightness, chroma, hue = map(float, color.removeprefix("oklch(").removesuffix(")").split())
    angle = math.radians(hue)
    lab = np.array([lightness, chroma * math.cos(angle), chroma * math.sin(angle)])
    found = np.linalg.solve(TO_LMS, np.linalg.solve(TO_LAB, lab) ** 3)
    return np.clip(found, 0, 1)


def luminance(color: str) -> float:
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert luminance("oklch(1 0 0)") == pytest.approx(1, abs=1e-6)


def test_every_arm_of_the_study_has_a_colour():
    assert {*ARM_COLORS} == {*ARMS}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("arm", [*ARMS, "one's own", "another", "", "a\ud83d"])
def test_an_arm_stands_out_from_the_background_and_from_the_margin(arm, theme):
    color = getattr(color_of(arm), theme)
    for ground in ("background", "band"):
        assert contrast(color, THEMES[theme][ground]) >= GRAPHICS


@pytest.mark.parametrize("theme", THEMES)
def test_text_stands_out_from_the_background_and_from_the_margin(theme):
    colors = THEMES[theme]
    for name in ("ink", "quiet", "link", "warning"):
        for ground in ("background", "band"):
            assert contrast(colors[name], colors[ground]) >= TEXT, name
    assert contrast(colors["zero"], colors["band"]) >= GRAPHICS


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SEEN_WITH)
def test_arms_with_one_dash_differ_in_colour_for_everyone(theme, sight):
    def seen(color: str) -> np.ndarray:
        rgb = np.clip(SEEN_WITH[sight] @ linear(color), 0, 1)
        return TO_LAB @ np.cbrt(TO_LMS @ rgb)

    for one, other in combinations(ARM_COLORS.values(), 2):
        if one.dash == other.dash:
            apart = np.linalg.norm(seen(getattr(one, theme)) - seen(getattr(other, theme)))
            assert apart >= 0.08, (one, other)


def test_an_arm_of_one_s_own_has_one_colour_of_its_name():
    assert color_of("mine") == color_of("mine") != color_of("yours")
    assert arm_class("</style>").replace("arm-", "").isalnum()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.nats(6.41234), "6.4123"),
        (numbers.nats(None), "–"),
        (numbers.nats(math.nan), "not finite"),
        (numbers.signed(-0.0131), "−0.0131"),
        (numbers.signed(0.2), "+0.2000"),
        (numbers.signed(-1e-9), "0.0000"),
        (numbers.interval(-0.01, 0.02), "−0.0100 to +0.0200"),
        (numbers.interval(None, 0.02), "–"),
        (numbers.probability(0.0002), "< 0.001"),
        (numbers.probability(0.0421), "0.042"),
        (numbers.share(0.955), "95.5 %"),
        (numbers.perplexity(7.3268), "1,520.51"),
        (numbers.perplexity(1e4), "above 10⁴²"),
        (numbers.figure(0.00123456), "0.00123"),
        (numbers.figure(3.1e-8), "3.1 × 10⁻⁸"),
        (numbers.figure(-0.5), "−0.5"),
        (numbers.count(16384), "16,384"),
        (numbers.seconds(0.44), "0.4 s"),
        (numbers.seconds(59.7), "1 min 0 s"),
        (numbers.seconds(4000), "1 h 6 min"),
        (numbers.seconds(math.inf), "not finite"),
    ],
)
def test_a_number_is_shown_as(shown, expected):
    assert shown == expected


@given(st.lists(st.floats(0, 300), min_size=1, max_size=17))
def test_labels_never_overlap_and_stay_in_the_figure(places):
    moved = spread(places, 17, 300)
    assert all(8.5 - 1e-6 <= place <= 291.5 + 1e-6 for place in moved)
    ordered = sorted(moved)
    assert all(high - low >= 17 - 1e-6 for low, high in pairwise(ordered))
    assert [moved[i] for i in sorted(range(len(places)), key=lambda i: (places[i], i))] == ordered


def test_labels_that_have_room_are_not_moved():
    assert spread([100, 20, 250], 17, 300) == [100, 20, 250]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_numbers_on_the_axis(low, width, about):
    axis = Axis(low, low + width)
    ticks = axis.ticks(about)
    assert len(ticks) <= about + 1
    for tick in ticks:
        assert -1e-6 <= axis.place(tick) <= 1 + 1e-6


def test_an_axis_leaves_out_what_is_far_and_nothing_else():
    assert reach([0.1, 0.12, 0.09, 1.0]) == 0.12
    assert reach([0.1, 0.12, 0.09, 0.3]) == 0.3
    assert reach([0.002, 0.003, 0.004, 0.005, 0.01, 0.02, 0.05, 0.12, 1.0]) == 0.12
    assert reach([0.0001, 0.0002], 0.01) == 0.01
    assert reach([], 0.01) == 0.01
    assert reach([math.nan, 0.3, math.inf]) == 0.3


def test_a_long_line_keeps_its_ends_and_loses_what_is_not_finite():
    points = [(float(i), math.nan if i % 10 == 5 else 1.0) for i in range(1001)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == ((0.0, 1.0), (1000.0, 1.0))
    assert all(math.isfinite(y) for _, y in kept)


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_every_number_in_full(tmp_path):
    results = study()
    written = write_study_tables(results, tmp_path / "new" / "tables")
    folder = written[0].parent
    assert sorted(folder.iterdir()) == sorted(written)
    losses = {(r["regime"], r["arm"], int(r["seed"])): r["loss_nats_per_token"]
              for r in read(folder, "losses")}  # fmt: skip
    compared = {(r["regime"], r["rival"]): r for r in read(folder, "comparisons")}
    curves = {(r["regime"], r["arm"], int(r["tokens"])): float(r["loss_nats_per_token"])
              for r in read(folder, "curves")}  # fmt: skip
    tuned = {(r["regime"], r["arm"], r["setting"]): float(r["value"])
             for r in read(folder, "tuning")}  # fmt: skip
    assert (len(losses), len(compared), len(curves), len(tuned)) == (280, 26, 1680, 56)
    for regime in results.regimes:
        for arm, found in regime.losses.items():
            for seed, loss in found.of_seeds.items():
                assert float(losses[regime.name, arm, seed]) == loss
        for rival in regime.compared:
            row = compared[regime.name, rival.rival]
            assert row["verdict"] == rival.verdict
            assert float(row["p_within"]) == rival.p_within
            assert float(row["variance_seed"]) == (rival.variances or {})["seed"]
        for arm, settings in regime.tuned.items():
            assert tuned[regime.name, arm, "scale"] == settings.settings["scale"]
        shares = {r["arm"]: float(r["moved"]) for r in read(folder, "uses")
                  if r["regime"] == regime.name}  # fmt: skip
        assert shares == {arm: use.moved for arm, use in regime.uses.items()}
        for arm, found in regime.curves.items():
            assert [curves[regime.name, arm, n] for n in regime.curve_tokens] == found
    assert read(folder, "arms")[3] == {k: str(v) for k, v in asdict(results.arms[3]).items()}
    assert [float(r["loss"]) for r in read(folder, "scaling")] == [
        r["loss"] for r in SCALING["rows"]
    ]
    assert len(read(folder, "instrument")) == 3


def test_what_is_missing_is_an_empty_cell_and_an_empty_table(tmp_path):
    write_study_tables(with_diverged(), tmp_path)
    rows = [r for r in read(tmp_path, "losses") if r["arm"] == "mlp"]
    assert {r["loss_nats_per_token"] for r in rows} == {""}
    (row,) = [r for r in read(tmp_path, "comparisons") if r["rival"] == "mlp"]
    assert (row["verdict"], row["difference"], row["seeds_needed"]) == ("diverged", "", "")
    write_study_tables(unfinished(), tmp_path)
    assert read(tmp_path, "losses") == read(tmp_path, "scaling") == []
    assert (tmp_path / "losses.csv").read_text(encoding="utf-8").startswith("regime,arm,seed,")
