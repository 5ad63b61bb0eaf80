"""One colour and one dash per arm, the same in every figure of a study's page.

Fourteen hues cannot be told apart. The dash says which kind of arm it is, and the arms of one dash
differ in lightness too, so that people with a colour deficiency can tell them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from quantum_hybrid.report.study_page.markup import Markup

LIGHT = {
    "background": "#fdfcfa", "ink": "#1d2127", "quiet": "#5a616b", "rule": "#d9dbdf",
    "band": "#e4e9f0", "zero": "#6c737d", "link": "#1f5fae", "warning": "#8f2d10",
}  # fmt: skip
"""Colours of the page on a light background, and in print."""
DARK = {
    "background": "#14171c", "ink": "#e8e9eb", "quiet": "#a6adb8", "rule": "#363c46",
    "band": "#232932", "zero": "#8b93a0", "link": "#8db8f2", "warning": "#f0a385",
}  # fmt: skip

SOLID, DASHED, DOTTED, DASH_DOT, OTHER = "", "7 3", "2 3", "9 3 2 3", "4 2"
"""Dashes: the subject and the classical maps; other circuits; arms that do not train; what a
circuit is as a classical function; arms that are not of this project. Lengths in pixels."""


@dataclass(frozen=True)
class ArmColor:
    """How an arm is drawn."""

    light: str
    """On a light background, a CSS colour."""
    dark: str
    dash: str
    """As SVG's stroke-dasharray; empty for a solid line."""


ARM_COLORS = {
    "ring": ArmColor("#2b6fd0", "#6f9bfa", SOLID),
    "nothing": ArmColor("#2a2d33", "#b1b4bd", SOLID),
    "identity": ArmColor("#8f420c", "#df8c6a", SOLID),
    "affine": ArmColor("#4e8c61", "#93e6b2", SOLID),
    "mlp": ArmColor("#a83a7a", "#d862ad", SOLID),
    "no entangler": ArmColor("#3480ac", "#77daff", DASHED),
    "chain": ArmColor("#771b1c", "#d67162", DASHED),
    "ring once": ArmColor("#85791d", "#dadc89", DASHED),
    "re-uploading": ArmColor("#523491", "#9e88d3", DASHED),
    "frozen ring": ArmColor("#5579d0", "#8c86dc", DOTTED),
    "frozen random": ArmColor("#a56f22", "#bb8b3d", DOTTED),
    "shuffled": ArmColor("#0a4848", "#aadadf", DOTTED),
    "fourier": ArmColor("#5f8850", "#b0e98e", DASH_DOT),
    "polynomial": ArmColor("#6f1c28", "#cd668a", DASH_DOT),
}
"""The arms of `quantum_hybrid.study.arms`."""


def color_of(arm: str) -> ArmColor:
    """The arm's colour; an arm that is not in the table gets one from its name."""
    if arm in ARM_COLORS:
        return ARM_COLORS[arm]
    hue = int(_digest(arm), 16) % 360
    # In OKLCH the lightness fixes the contrast, whatever the hue.
    return ArmColor(f"oklch(0.52 0.1 {hue})", f"oklch(0.76 0.1 {hue})", OTHER)


def arm_class(arm: str) -> str:
    """The CSS class that gives an element the arm's colour, as `color`."""
    return f"arm-{arm.replace(' ', '-') if arm in ARM_COLORS else _digest(arm)}"


def color_sheet(arms: Iterable[str]) -> Markup:
    """CSS of the page's colours and of these arms, light and dark."""
    colors = {arm_class(arm): color_of(arm) for arm in arms}
    light = LIGHT | {name: color.light for name, color in colors.items()}
    dark = DARK | {name: color.dark for name, color in colors.items()}
    rules = (f".{name}{{color:var(--{name})}}" for name in colors)
    swatches = (
        f".swatch.{name}{{background:{_stripes(color.dash)}}}" for name, color in colors.items()
    )
    return Markup(
        f":root{{{_properties(light)}}}\n"
        # Only on a screen, so that paper is always light.
        f"@media screen and (prefers-color-scheme: dark){{:root{{{_properties(dark)}}}}}\n"
        + "\n".join([*rules, *swatches, ""])
    )


def _properties(colors: dict[str, str]) -> str:
    return ";".join(f"--{name}:{color}" for name, color in colors.items())


def _stripes(dash: str) -> str:
    if not dash:
        return "currentColor"
    stops, at = [], 0
    for i, length in enumerate(map(int, dash.split())):
        paint = "transparent" if i % 2 else "currentColor"
        stops.append(f"{paint} {at}px {at + length}px")
        at += length
    return f"repeating-linear-gradient(90deg,{','.join(stops)})"


def _digest(arm: str) -> str:
    # A name may hold half a character, which is not valid UTF-8.
    return hashlib.sha256(arm.encode("utf-8", "replace")).hexdigest()[:8]
