"""``python -m benchmarks.study_tables``: the tables of docs/study.md, from the studies beside it.

A kept study is a folder docs/studies/NAME with the results.json that the study has left. One
whose name is that of another with "-seeds" behind it is the same plan with other seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parents[1] / "docs/studies"
OTHER_SEEDS = "-seeds"
Results = Mapping[str, Any]


def main() -> None:
    """Print all of them."""
    for name, table in tables(STUDIES):
        print(f"{name}\n\n{table}\n")


def tables(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and Markdown of each table."""
    for study in sorted(path.name for path in folder.iterdir()):
        if study.endswith(OTHER_SEEDS):
            continue
        results, again = _read(folder / study), _read(folder / (study + OTHER_SEEDS))
        if results is None:
            raise FileNotFoundError(f"{folder / study}: holds no results.json")
        for regime in results["regimes"]:
            name = f"{study}, {regime['name']}"
            yield f"{name}: verdicts", _joined(_verdicts(results, regime, again))
            yield f"{name}: circuits", _joined(_uses(results, regime))


def _read(study: Path) -> Results | None:
    file = study / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _joined(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _verdicts(results: Results, regime: Results, again: Results | None) -> list[list[str]]:
    """The subject, every rival, and the controls."""
    subject, facts = results["subject"], {arm["name"]: arm for arm in results["arms"]}
    same = [one for one in (again or {"regimes": []})["regimes"] if one["name"] == regime["name"]]
    head = ["arm", "parameters", "multiply-adds", "loss", f"minus the {subject}, 95 % interval"]
    rows = [[*head, f"the {subject} is", *["other seeds" for _ in same]]]
    compared = {one["rival"]: one for one in regime["compared"]}
    for arm, losses in sorted(regime["losses"].items(), key=lambda item: _mean(item[1])):
        cost = [f"{facts[arm][key]:,}" for key in ("n_parameters", "multiply_adds")]
        name = f"**{arm}**" if arm == subject else arm
        row = [name, *cost, f"{_mean(losses):.4f}"]
        if arm == subject:
            rows.append([*row, "", "", *[f"{_mean(one['losses'][arm]):.4f}" for one in same]])
            continue
        others = [_other(one["compared"], arm) for one in same]
        rows.append([*row, _interval(compared[arm]), f"**{compared[arm]['verdict']}**", *others])
    for key, says in (
        ("control", "*negative control*: shuffled minus nothing"),
        ("positive", "*positive control*: no map minus writer"),
    ):
        if regime[key] is not None:
            others = [f"{one[key]['verdict']}, {_signed(one[key]['difference'])}" for one in same]
            rows.append([says, "", "", "", _interval(regime[key]), regime[key]["verdict"], *others])
    return rows


def _other(compared: Sequence[Results], arm: str) -> str:
    (one,) = [one for one in compared if one["rival"] == arm]
    return f"{one['verdict']}, {_signed(one['difference'])}"


def _interval(one: Results) -> str:
    return f"{_signed(one['difference'])} ({_signed(one['low'])} to {_signed(one['high'])})"


def _uses(results: Results, regime: Results) -> list[list[str]]:
    """What the tuning made of every arm."""
    rows = [["arm", "spread", "not linear", "moved", "validation loss", "with a spread of 0.1+"]]
    for arm, use in regime["uses"].items():
        tuned = regime["tuned"][arm]
        nonlinear = "-" if use["nonlinear"] is None else f"{100 * use['nonlinear']:.2f} %"
        wide = "-" if tuned["wide_loss"] is None else f"{tuned['wide_loss']:.4f}"
        moved, loss = f"{use['moved']:.4f}", f"{tuned['validation_loss']:.4f}"
        spread = f"{tuned['settings']['spread']:.2g}"
        rows.append([arm, spread, nonlinear, moved, loss, wide])
    return rows


def _mean(losses: Results) -> float:
    values = list(losses["of_seeds"].values())
    if None in values:
        return float("nan")
    return sum(values) / len(values)


def _signed(value: float) -> str:
    return f"{value:+.4f}"


if __name__ == "__main__":
    main()
