"""What a study has found so far, from its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import CheckpointError
from quantum_hybrid.report.study_results import (
    ArmFacts,
    ArmLosses,
    ArmUse,
    ComparedRival,
    Look,
    Progress,
    RegimeResults,
    Sample,
    StudyResults,
    TextFacts,
    TunedArm,
)
from quantum_hybrid.study.arms import (
    NEGATIVE_CONTROL,
    NO_MAP,
    NOTHING,
    SUBJECT,
    WRITER,
    Shape,
    arm_named,
)
from quantum_hybrid.study.fits.fit import BATCH_ROWS
from quantum_hybrid.study.fits.tuning import WIDE, Tuning
from quantum_hybrid.study.fits.use import Use
from quantum_hybrid.study.folder import StudyFolder
from quantum_hybrid.study.ground.corpus import PARTS, Corpus
from quantum_hybrid.study.ground.healing import HEALING_UNITS
from quantum_hybrid.study.ground.hidden_states import HiddenStates
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.notes import notes_of
from quantum_hybrid.study.plan import StudyPlan
from quantum_hybrid.study.regimes import CONTROLS, REGIMES, Regime
from quantum_hybrid.study.tasks import tasks_of
from quantum_hybrid.study.verdict import Comparison, compare

COMPLETE = "complete"
"""The stage in which held-out losses are compared."""
POINTS = 60
"""Number of points of a learning curve."""
SAMPLES = 4


def results_of(study: StudyFolder, stage: str) -> StudyResults:
    """All results; `stage` says what the study is doing."""
    plan, begun = study.plan, study.started()
    corpus = Corpus.read(study.text) if study.text.exists() else None
    tasks = tasks_of(plan)
    missing = [str(task) for task in tasks if not task.is_done(study)]
    fits = [task for task in tasks if task.kind == "fit"]
    progress = Progress(stage, sum(task.is_done(study) for task in fits), len(fits), missing)
    is_complete = stage == COMPLETE and not missing
    regimes = [_regime(study, regime, is_complete=is_complete) for regime in plan.regimes]
    return StudyResults(
        plan=plan.model_dump(mode="json"),
        plan_hash=plan.digest,
        started=begun["started"],
        command=begun["command"],
        commit=begun["git_commit"],
        machine=begun["machine"] | {"python": begun["python"]},
        versions=begun["versions"],
        is_quick=not plan.proves_something,
        subject=SUBJECT,
        progress=progress,
        seconds=study.times(),
        text=None if corpus is None else _text(study, corpus),
        arms=[_facts(plan.shape, arm) for arm in _arms(plan)],
        regimes=regimes,
        looks=[] if corpus is None else _looks(study, corpus),
        instrument=_instrument(),
        scaling=_scaling(study),
        notes=[*_versions(study), *(n for one in regimes for n in notes_of(one, plan.margin))],
    )


def _versions(study: StudyFolder) -> list[str]:
    """A note if more than one version of the program has computed something."""
    programs = [str(program)[:12] for program in study.programs()]
    if len(programs) < 2:
        return []
    return [f"Several versions of the program have computed this study: {', '.join(programs)}."]


def write_results(study: StudyFolder, results: StudyResults) -> None:
    """Write results.json, atomically; null where a number is not finite, as JSON has none."""
    write_json(study.path / "results.json", _finite(asdict(results)))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _arms(plan: StudyPlan) -> list[str]:
    """Those of the plan, then those that a regime adds."""
    return list(dict.fromkeys(arm for regime in plan.regimes for arm in plan.arms_of(regime)))


@cache
def _facts(shape: Shape, name: str) -> ArmFacts:
    arm = arm_named(name)
    built = arm.build(shape, seed=0)
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
    return ArmFacts(name, arm.says, trained, built.multiply_adds)


def _instrument() -> dict[str, Any]:
    """The instrument's own test, as `benchmarks.instrument` measured it."""
    file = resources.files("quantum_hybrid.study").joinpath("data/instrument.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _scaling(study: StudyFolder) -> dict[str, Any] | None:
    file = study.scaling
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _text(study: StudyFolder, corpus: Corpus) -> TextFacts:
    parts = corpus.parts
    tokens = {}
    folder = study.ground_of(study.plan.regimes[0])
    if folder.exists():
        ground = HiddenStates(folder)
        tokens = {part: len(ground.rows(part, with_features=False)) for part in PARTS}
    samples = [Sample(unit.prompt or "", unit.text) for unit in parts["training"][:SAMPLES]]
    n_units = {part: len(units) for part, units in parts.items()}
    return TextFacts(corpus.source, corpus.unit, n_units, tokens, corpus.left_out, samples)


def _looks(study: StudyFolder, corpus: Corpus) -> list[Look]:
    rows = Looks(study, corpus.held_out_digests).opened()
    return [Look(row["time"], Path(row["study"]).name, row["plan"], row["n_units"]) for row in rows]


def _regime(study: StudyFolder, regime: Regime, *, is_complete: bool) -> RegimeResults:
    plan = study.plan
    tuning = Tuning.read(plan, regime, study.tuning(regime))
    tuned = {arm: _tuned(tuning, arm) for arm in plan.arms_of(regime)} if tuning.is_done else {}
    tokens, curves = _curves(study, regime)
    sums = _held_out(study, regime) if is_complete else {}
    n_tokens = _tokens_of_units(study, regime) if is_complete else np.zeros(0)
    losses = {arm: _losses(plan, own, n_tokens) for arm, own in sums.items()}
    facts = REGIMES[regime]
    return RegimeResults(
        name=regime,
        says=facts.says,
        tuned=tuned,
        curve_tokens=tokens,
        curves=curves,
        losses=losses,
        best_gain=_best_gain(losses),
        compared=_compared(plan, plan.rivals(regime), sums, n_tokens) if sums else [],
        control=_between(plan, NOTHING, NEGATIVE_CONTROL, sums, n_tokens),
        positive=_between(plan, WRITER, NO_MAP, sums, n_tokens),
        uses={} if facts.is_joint else _uses(study, regime),
        is_control=regime in CONTROLS,
        is_tuned=not facts.is_joint,
        is_frozen=not facts.is_joint,
    )


def _uses(study: StudyFolder, regime: Regime) -> dict[str, ArmUse]:
    """Over the seeds, once all are done."""
    files = [study.fit(regime, seed) for seed in study.plan.all_seeds]
    if not all(file.exists() for file in files):
        return {}
    uses = [torch.stack([_kept(file, name) for file in files]) for name in Use._fields]
    found = {}
    for i, arm in enumerate(study.plan.arms_of(regime)):
        nonlinear, moved, directions = (of_arms[:, i] for of_arms in uses)
        share = float(nonlinear.mean())
        found[arm] = ArmUse(
            nonlinear=share if math.isfinite(share) else None,
            moved=float(moved.mean()),
            directions=int(directions.min()),
        )
    return found


def _tuned(tuning: Tuning, arm: str) -> TunedArm:
    best, trials = tuning.best(arm), tuning.trials[arm]
    n_diverged = sum(trial.loss is None for trial in trials)
    wide = [one.loss for one in trials if one.loss is not None and one.settings.spread >= WIDE]
    return TunedArm(
        asdict(best.settings), best.loss, len(trials), n_diverged, min(wide, default=None)
    )


def _curves(study: StudyFolder, regime: Regime) -> tuple[list[int], dict[str, list[float]]]:
    """Training losses, mean over the seeds that are done and over spans of steps."""
    kept = (_curve(study, regime, seed) for seed in study.plan.all_seeds)
    found = [curve for curve in kept if curve is not None]
    if not found:
        return [], {}
    n_steps = min(curve.shape[1] for curve in found)
    mean = torch.stack([curve[:, :n_steps] for curve in found]).mean(0)
    spans = np.array_split(np.arange(n_steps), min(POINTS, n_steps))
    is_joint = REGIMES[regime].is_joint
    per_step = HEALING_UNITS * _mean_tokens(study, regime) if is_joint else BATCH_ROWS
    tokens = [int(per_step * (span.mean() + 0.5)) for span in spans]
    rows = torch.stack([mean[:, span].mean(1) for span in spans], 1)
    return tokens, {
        arm: row.tolist() for arm, row in zip(study.plan.arms_of(regime), rows, strict=True)
    }


def _curve(study: StudyFolder, regime: Regime, seed: int) -> Float[Tensor, "arms steps"] | None:
    """The curves of all arms of a seed; None if they are not done."""
    arms = study.plan.arms if REGIMES[regime].is_joint else (None,)
    files = [study.fit(regime, seed, arm) for arm in arms]
    if not all(file.exists() for file in files):
        return None
    parts = [_kept(file, "curve") for file in files]
    longest = max(part.shape[1] for part in parts)  # One that diverged is shorter.
    return torch.cat([F.pad(part, (0, longest - part.shape[1]), value=torch.nan) for part in parts])


def _kept(fit: Path, name: str) -> Tensor:
    try:
        with safe_open(fit, "pt") as content:
            return content.get_tensor(name)
    except SafetensorError as error:
        raise CheckpointError(f"{fit}: not a fit of this version: {error}") from error


def _mean_tokens(study: StudyFolder, regime: Regime) -> float:
    rows = HiddenStates(study.ground_of(regime)).rows("training", with_features=False)
    return len(rows) / (int(rows.prompts.max()) + 1)


def _held_out(study: StudyFolder, regime: Regime) -> dict[str, Float[np.ndarray, "seeds units"]]:
    seeds = [np.load(study.losses(regime, seed)) for seed in study.plan.all_seeds]
    return dict(zip(study.plan.arms_of(regime), np.stack(seeds, 1), strict=True))


def _tokens_of_units(study: StudyFolder, regime: Regime) -> Float[np.ndarray, " units"]:
    rows = HiddenStates(study.ground_of(regime)).rows("held-out", with_features=False)
    return np.bincount(rows.prompts.numpy()).astype(float)


def _losses(plan: StudyPlan, sums: np.ndarray, tokens: np.ndarray) -> ArmLosses:
    means = sums.sum(1) / tokens.sum()
    finite = [float(mean) if np.isfinite(mean) else None for mean in means]
    return ArmLosses(dict(zip(plan.all_seeds, finite, strict=True)))


def _compared(
    plan: StudyPlan, rivals: Sequence[str], sums: Mapping[str, np.ndarray], tokens: np.ndarray
) -> list[ComparedRival]:
    """The comparisons with all rivals that did not diverge, and the names of the others."""
    finite = {arm for arm, own in sums.items() if np.isfinite(own).all()}
    sound = {arm: sums[arm] for arm in rivals if arm in finite}
    found = []
    if SUBJECT in finite and sound:
        found = compare(sums[SUBJECT], sound, tokens, plan.margin, seed=plan.text_seed)
    compared = {one.rival: _row(one) for one in found}
    return [compared.get(arm, ComparedRival(arm, "diverged")) for arm in rivals]


def _best_gain(losses: Mapping[str, ArmLosses]) -> float | None:
    arms = losses.keys() - {NOTHING, NEGATIVE_CONTROL}
    means = [mean for arm in arms if (mean := losses[arm].mean) is not None]
    nothing = losses[NOTHING].mean if NOTHING in losses else None
    return None if nothing is None or not means else nothing - min(means)


def _between(
    plan: StudyPlan, one: str, other: str, sums: Mapping[str, np.ndarray], tokens: np.ndarray
) -> ComparedRival | None:
    """An arm against another; None unless both are there and did not diverge."""
    both = [sums[arm] for arm in (one, other) if arm in sums]
    if len(both) < 2 or not all(np.isfinite(own).all() for own in both):
        return None
    return _row(*compare(both[0], {other: both[1]}, tokens, plan.margin, seed=plan.text_seed))


def _row(found: Comparison) -> ComparedRival:
    seed, prompt, rest = found.difference.mean_squares.variances
    low, high = found.interval
    low_elsewhere, high_elsewhere = found.difference.interval_for_other_training_data()
    return ComparedRival(
        rival=found.rival,
        verdict=found.verdict.value,
        difference=found.difference.mean,
        low=low,
        high=high,
        p_different=found.p_different,
        p_within=found.p_within,
        p_t=found.over_seeds.p_t,
        p_wilcoxon=found.over_seeds.p_wilcoxon,
        low_elsewhere=low_elsewhere,
        high_elsewhere=high_elsewhere,
        seeds_needed=found.seeds_needed,
        variances={"seed": seed, "prompt": prompt, "rest": rest},
    )
