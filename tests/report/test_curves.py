"""Curves drawn from a run's rows, read back as pictures."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from quantum_hybrid.errors import UsageError
from quantum_hybrid.report.curves import PATHWAY_COLORS, draw_curves

SVG = "{http://www.w3.org/2000/svg}"


def training_row(step: int) -> dict[str, float]:
    return {
        "step": step,
        "time_s": 1.7e9 + step,
        "train/hybrid_loss": 5.6 - 0.1 * step,
        "train/classical_loss": 5.5 - 0.1 * step,
        "train/quantum_loss": 8.5 - 0.02 * step,
        "train/alpha_value": 0.5 + 0.02 * step,
        "train/quantum_coherence": 0.6,
        "train/quantum_entanglement": 0.4,
    }


def held_out_row(step: int) -> dict[str, float]:
    return {
        "step": step,
        "time_s": 1.7e9 + step,
        "eval/hybrid_loss": 5.7 - 0.1 * step,
        "eval/classical_loss": 5.6 - 0.1 * step,
        "eval/quantum_loss": 8.6 - 0.02 * step,
        "eval/quantum_ablation": 0.001 * step,
        "model/quantum_contribution": 0.2,
    }


ROWS = [held_out_row(0), *(training_row(step) for step in range(1, 7)), held_out_row(6)]


def texts(path: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ET.parse(path).getroot().iter(f"{SVG}text")]


def curve(path: Path, metric: str) -> ET.Element:
    return next(g for g in ET.parse(path).getroot().iter(f"{SVG}g") if g.get("id") == metric)


def test_a_png_is_opaque_white_and_wide_enough(tmp_path):
    path = tmp_path / "figures" / "curves.png"
    draw_curves(ROWS, path, title="Run a")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1800
        assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_an_svg_names_the_run_its_panels_its_units_and_its_pathways(tmp_path):
    path = tmp_path / "curves.svg"
    draw_curves(ROWS, path, title="Run a, seed 0")
    words = texts(path)
    for expected in ("Run a, seed 0", "nats per token", "training step", "State of the circuit"):
        assert expected in words
    for pathway in PATHWAY_COLORS:
        assert words.count(pathway) == 1, "one legend entry for training and held-out"
    assert "not measured" not in words


def test_every_metric_has_the_color_of_its_pathway(tmp_path):
    path = tmp_path / "curves.svg"
    draw_curves(ROWS, path, title="Run a")
    for pathway, color in PATHWAY_COLORS.items():
        for split in ("train", "eval"):
            strokes = re.findall(
                r"stroke: (#\w+)", ET.tostring(curve(path, f"{split}/{pathway}_loss"), "unicode")
            )
            assert strokes[0].lower() == color.lower()


def test_a_panel_without_its_metrics_says_so(tmp_path):
    path = tmp_path / "curves.svg"
    draw_curves([training_row(step) for step in range(3)], path, title="No evaluation yet")
    words = texts(path)
    assert words.count("not measured") == 1, "the ablation alone needs held-out text"
    assert words.count("hybrid") == 1


def test_no_rows_at_all_still_give_a_picture(tmp_path):
    path = tmp_path / "curves.svg"
    draw_curves([], path, title="Nothing yet")
    assert texts(path).count("not measured") == 4


def test_a_title_may_hold_any_characters(tmp_path):
    path = tmp_path / "curves.svg"
    draw_curves(ROWS, path, title="Costs $3 & <more> than $2 " + "or a very long name " * 6)
    assert any("Costs $3 & <more> than $2" in text for text in texts(path))


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_equal_rows_give_an_equal_file(tmp_path, suffix):
    for name in ("first", "second"):
        draw_curves(ROWS, tmp_path / f"{name}.{suffix}", title="Run a")
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_is_left_behind_but_the_picture_and_no_setting_changes(tmp_path):
    before = dict(matplotlib.rcParams)
    draw_curves(ROWS, tmp_path / "curves.svg", title="Run a")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.svg"]
    assert dict(matplotlib.rcParams) == before


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        draw_curves(ROWS, tmp_path / "curves.jpg", title="Run a")
    assert list(tmp_path.iterdir()) == []


def test_drawing_loads_neither_torch_nor_pyplot():
    code = (
        "import sys, quantum_hybrid.report as r;"
        "print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
