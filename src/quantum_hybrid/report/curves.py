"""The figure of a run: loss, mixing, ablation and circuit state against the training step.

From the rows of `metrics.jsonl` (dicts with `step` and the metrics of docs/metrics.md as keys) to
an SVG or PNG file. A panel without any logged metric says "not measured". Each pathway has one
colour everywhere, from the colour-blind safe palette of Okabe and Ito (2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import UsageError

PATHWAY_COLORS = {"hybrid": "#0072B2", "classical": "#D55E00", "quantum": "#009E73"}
ALPHA_COLOR = "#CC79A7"
"""alpha has a colour of its own because it belongs to no pathway."""

_INK = "#24292f"
_FAINT = "#6e7781"
_GRID = "#e4e7eb"
_CANVASES = {".png": FigureCanvasAgg, ".svg": FigureCanvasSVG}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    # Keep text as text in an SVG, so that it can be searched, selected and read aloud.
    "svg.fonttype": "none",
    # Without a fixed salt, equal rows would give different files.
    "svg.hashsalt": "quantum-hybrid",
}


@dataclass(frozen=True)
class _Curve:
    metric: str
    label: str
    color: str
    style: Mapping[str, Any]
    fallback_label: bool = False
    """Whether to show the label only if no other curve has the same one."""


_TRAINING = {"linewidth": 1.0, "alpha": 0.55, "zorder": 2}
_SMOOTH = {"linewidth": 2.0, "zorder": 2}
_HELD_OUT = {"linewidth": 2.2, "marker": "o", "markeredgecolor": "white", "zorder": 3}
# Hybrid and classical often coincide: the larger squares of classical show behind hybrid's dots.
_HELD_OUT_MARKERS = {
    "hybrid": {"markersize": 5.5, "zorder": 4},
    "classical": {"marker": "s", "markersize": 7.5, "linewidth": 3.2},
    "quantum": {"marker": "D", "markersize": 5.5},
}


def _loss_curves() -> list[_Curve]:
    training = [
        _Curve(f"train/{name}_loss", name, color, _TRAINING, fallback_label=True)
        for name, color in PATHWAY_COLORS.items()
    ]
    held_out = [
        _Curve(f"eval/{name}_loss", name, color, _HELD_OUT | _HELD_OUT_MARKERS[name])
        for name, color in PATHWAY_COLORS.items()
    ]
    return training + held_out


_QUANTUM = PATHWAY_COLORS["quantum"]
_LOSS = _loss_curves()
_MIXING = [
    _Curve("train/alpha_value", "classical weight alpha", ALPHA_COLOR, _SMOOTH),
    _Curve("model/quantum_contribution", "quantum share of variance", _QUANTUM, _HELD_OUT),
]
_ABLATION = [
    _Curve(
        "eval/quantum_ablation",
        "rise in held-out loss when Q is replaced by its mean",
        _QUANTUM,
        _HELD_OUT,
    )
]
_CIRCUIT = [
    _Curve("train/quantum_coherence", "coherence", _QUANTUM, {"linewidth": 1.3}),
    _Curve(
        "train/quantum_entanglement",
        "entanglement",
        _QUANTUM,
        {"linewidth": 1.3, "linestyle": (0, (3, 1.5))},
    ),
]
_ABLATION_FLOOR = 0.01
"""Minimum range of the ablation's axis in nats per token, so that noise around 0 looks small."""


def draw_curves(metrics: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw a run's curves into `path`, an SVG or a PNG by its suffix.

    The file is written atomically and contains no date, so equal rows give an equal file.

    Args:
        metrics: rows of `metrics.jsonl`; each has `step` and some of the metrics drawn.
        path: the picture, 9 inches wide (1,800 px as PNG) on a white background.
        title: heading of the figure, such as the run's name.

    Raises:
        UsageError: the suffix of `path` is neither .svg nor .png.
    """
    if path.suffix.lower() not in _CANVASES:
        raise UsageError(f"{path}: curves are drawn as .svg or .png only")
    with matplotlib.rc_context(_STYLE):
        picture = _render(_build_figure(metrics, title), path.suffix.lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture)


def _render(figure: Figure, suffix: str) -> bytes:
    buffer = BytesIO()
    canvas = _CANVASES[suffix](figure)
    if suffix == ".svg":
        canvas.print_figure(buffer, format="svg", metadata={"Date": None})
    else:
        canvas.print_figure(buffer, format="png", dpi=200)
    return buffer.getvalue()


def _build_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12, wspace=0.04, hspace=0.04)
    figure = Figure(figsize=(9, 7.2), dpi=100, layout=layout, facecolor="white")
    figure.suptitle(
        fill(title, 80), x=0.012, ha="left", fontsize=13, fontweight="bold", parse_math=False
    )
    (loss, mixing), (ablation, circuit) = figure.subplots(2, 2, sharex=True)
    _draw_panel(loss, metrics, _LOSS, "Loss (thin: training, markers: held-out)", "nats per token")
    _draw_panel(mixing, metrics, _MIXING, "How the pathways mix", "share, 0 to 1")
    _draw_panel(ablation, metrics, _ABLATION, "What the quantum pathway is worth", "nats per token")
    _draw_panel(circuit, metrics, _CIRCUIT, "State of the circuit", "share of the maximum, 0 to 1")
    for axes in (mixing, circuit):
        axes.set_ylim(-0.02, 1.02)
    low, high = ablation.get_ylim()
    ablation.set_ylim(min(low, -_ABLATION_FLOOR), max(high, _ABLATION_FLOOR))
    ablation.axhline(0, color=_INK, linewidth=0.9, zorder=1)
    for axes in (ablation, circuit):
        axes.set_xlabel("training step")
    return figure


def _draw_panel(
    axes: Axes,
    metrics: Sequence[Mapping[str, Any]],
    curves: Sequence[_Curve],
    heading: str,
    unit: str,
) -> None:
    axes.set_title(heading, loc="left", fontsize=11, fontweight="bold", pad=24)
    axes.set_ylabel(unit)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    logged = [curve for curve in curves if any(curve.metric in row for row in metrics)]
    for curve in logged:
        _draw_curve(axes, metrics, curve)
    if logged:
        _label_curves(axes, logged)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=_FAINT)


def _draw_curve(axes: Axes, metrics: Sequence[Mapping[str, Any]], curve: _Curve) -> None:
    points = [(row["step"], row[curve.metric]) for row in metrics if curve.metric in row]
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=curve.color, label=curve.label, gid=curve.metric, **curve.style)


def _label_curves(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Put a legend between heading and plot, where it hides no data; each label occurs once."""
    named = {curve.label for curve in curves if not curve.fallback_label}
    handles = [
        line
        for line, curve in zip(axes.get_lines(), curves, strict=True)
        if not curve.fallback_label or curve.label not in named
    ]
    legend = axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.012, 0.99),
        ncols=len(handles),
        fontsize=8.5,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.5,
        handletextpad=0.5,
        columnspacing=1.0,
    )
    legend.set_in_layout(False)  # A long legend must not narrow its panel.
