"""Results of a study that was never made, for the tests of its page."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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

MARGIN = 0.005
FACTS = (
    ("ring", "two circuits with a ring of CNOTs, the student's own", 48, 26_624),
    ("nothing", "z = 0: a bias of the vocabulary alone", 0, 0),
    ("identity", "no map", 0, 0),
    ("affine", "an n x n matrix and a shift", 72, 64),
    ("mlp", "one hidden tanh layer with the circuits' number of weights", 59, 48),
    ("no entangler", "two circuits without CNOTs", 48, 26_624),
    ("chain", "two circuits with a chain of CNOTs", 48, 26_624),
    ("ring once", "one circuit with a ring of CNOTs", 24, 13_312),
    ("frozen ring", "the two circuits, left at their start", 0, 26_624),
    ("frozen random", "two ring circuits with random angles, left there", 0, 26_624),
    ("fourier", "64 random Fourier features of a circuit's spectrum", 520, 1_024),
    ("polynomial", "the polynomial of one circuit, its coefficients trained", 52_488, 59_049),
    ("re-uploading", "two rings that encode before every layer", 48, 51_200),
    ("shuffled", "the two circuits' outputs, shuffled among tokens", 48, 26_624),
)
ARMS = tuple(ArmFacts(*row) for row in FACTS)
BEHIND = {
    "nothing": 1.02, "identity": -0.121, "affine": -0.118, "mlp": -0.109, "no entangler": 0.014,
    "chain": 0.0011, "ring once": -0.004, "frozen ring": 0.021, "frozen random": 0.094,
    "fourier": -0.051, "polynomial": 0.006, "re-uploading": -0.0003, "shuffled": 1.03,
}  # fmt: skip
"""Rival -> how much worse than the subject it is in the regime alone, nats per token."""
REGIMES = {
    "alone": ("the logits are up(f(s tanh(down g))) and nothing else", 6.31, 1.0),
    "beside": ("added to the classical logits of the healed backbone", 2.84, 0.05),
    "weak": ("added to the classical logits of the backbone that was not healed", 4.02, 0.4),
}
"""Regime -> what it says, the subject's loss, and a factor for the differences."""
TEXT = TextFacts(
    "answers of the embedded teacher to prompts that it wrote itself",
    "prompt",
    {"training": 850, "validation": 150, "held-out": 800},
    {"training": 54_400, "validation": 9_600, "held-out": 51_200},
    {"near-duplicate": 31, "empty answer": 2},
    (
        Sample("Why is the sky blue?", "Because air scatters blue light more than red light."),
        Sample("Write a haiku about rain.", "Soft rain on the roof,\nthe gutter hums,\nI sleep."),
    ),
)


def compared(rival: str, difference: float, error: float) -> ComparedRival:
    """A comparison as the study makes it, with a normal interval."""
    low, high = difference - 1.96 * error, difference + 1.96 * error
    z = abs(difference) / error
    p_different = min(1.0, 13 * math.erfc(z / math.sqrt(2)))
    p_within = min(1.0, 13 * 0.5 * math.erfc((MARGIN - abs(difference)) / error / math.sqrt(2)))
    verdict = "inconclusive"
    if p_within <= 0.05:
        verdict = "equivalent"
    elif p_different <= 0.05:
        verdict = "better" if difference > 0 else "worse"
    return ComparedRival(
        rival,
        verdict,
        difference,
        low,
        high,
        p_different,
        p_within,
        p_different / 10,
        0.0019,
        low - error,
        high + error,
        None if verdict == "inconclusive" and difference > 0 else 12,
        {"seed": 3.1e-5 * error, "prompt": 2.4e-4, "rest": 1.9e-3},
    )


def regime(name: str, n_seeds: int, n_points: int, arms: Sequence[ArmFacts]) -> RegimeResults:
    """A regime that is complete."""
    says, base, factor = REGIMES[name]
    draw = random.Random(name)
    behind = {arm.name: factor * BEHIND.get(arm.name, 0.0) for arm in arms}
    return RegimeResults(
        name,
        says,
        {
            arm: TunedArm(
                {"rate": 10 ** draw.uniform(-4, -2), "scale": draw.uniform(0.5, 2)},
                base + behind[arm] + 0.02,
                8,
                draw.randrange(2),
                base + behind[arm] + 0.3,
            )
            for arm in behind
        },
        [(i + 1) * 54_400 // n_points for i in range(n_points)],
        {
            arm: [
                base + behind[arm] + 2.2 * math.exp(-9 * (i + 1) / n_points) + draw.gauss(0, 0.004)
                for i in range(n_points)
            ]
            for arm in behind
        },
        {
            arm: ArmLosses(
                {seed: base + behind[arm] + draw.gauss(0, 0.01) for seed in range(n_seeds)}
            )
            for arm in behind
        },
        [
            compared(arm, difference, 0.0008 + 0.05 * abs(difference) + 0.001 * draw.random())
            for arm, difference in behind.items()
            if arm != "ring"
        ],
        best_gain=behind.get("nothing", 0.0) - min(behind.values()),
        uses={
            arm: ArmUse(None if arm == "nothing" else 0.1 + 0.01 * i, 0.02 * i, min(i, 8))
            for i, arm in enumerate(behind)
        },
    )


def study(
    regimes: Sequence[str] = ("alone", "beside"),
    n_seeds: int = 10,
    n_points: int = 60,
    arms: Sequence[ArmFacts] = ARMS,
    **changes: Any,
) -> StudyResults:
    """A complete study."""
    names = [arm.name for arm in arms]
    n_fits = len(names) * len(regimes) * n_seeds
    results = StudyResults(
        plan={
            "version": 1,
            "margin": MARGIN,
            "n_qubits": 8,
            "n_layers": 3,
            "seeds": n_seeds,
            "arms": names,
            "regimes": list(regimes),
            "tuning_trials": 8,
            "text": None,
        },
        plan_hash="9f2c" * 16,
        started="2026-11-30T12:00:00+0000",
        command=["atropos.py", "study", "--plan", "a plan.yaml"],
        commit="15a048b0c4e1d7f2a9b3",
        machine={"system": "Linux-6.1-x86_64", "cpu_count": 2},
        versions={"torch": "2.13.0", "numpy": "2.4.6", "xllamacpp": None},
        is_quick=False,
        subject="ring",
        progress=Progress("finished", n_fits, n_fits, ()),
        seconds={"text": 812.0, "healing": 240.5, "tuning": 4_100.0, "fits": 9_321.0, "page": 0.4},
        text=TEXT,
        arms=arms,
        regimes=[regime(name, n_seeds, n_points, arms) for name in regimes],
        looks=(Look("2026-11-30T15:02:11+0000", "studies/first", "9f2c" * 16, 800),),
        instrument=INSTRUMENT,
        scaling=SCALING,
    )
    return replace(results, **changes)


def unfinished() -> StudyResults:
    """A study whose fits go on: curves, and nothing held out."""
    whole = study()
    return replace(
        whole,
        progress=Progress("fitting alone, seed 3", 42, 280, ("238 fits", "the held-out losses")),
        regimes=[
            replace(regime, losses={}, compared=(), uses={}, best_gain=None)
            for regime in whole.regimes
        ],
        looks=(),
        instrument=None,
        scaling=None,
    )


def with_diverged() -> StudyResults:
    """A study in which one rival has no loss with one seed, and another with none."""
    whole = study(("alone",))
    (alone,) = whole.regimes
    names = ("mlp", "identity")
    lost = {
        name: ArmLosses(dict.fromkeys(range(10)) | ({} if name == "mlp" else {0: 6.2}))
        for name in names
    }
    none = ComparedRival("", "diverged")
    diverged = replace(
        alone,
        losses={**alone.losses, **lost},
        curves={**alone.curves, "mlp": [math.nan] * len(alone.curve_tokens)},
        compared=[
            replace(none, rival=rival.rival) if rival.rival in names else rival
            for rival in alone.compared
        ],
    )
    return replace(whole, regimes=[diverged], notes=("The arm mlp diverged with every seed.",))


INSTRUMENT = {
    "n_studies": 400,
    "rows": [
        {"planted": 0.0, "n_studies": 200, "told_apart": 0.035, "equivalent": 0.94,
         "covered": 0.955, "n_seeds": 10, "n_prompts": 800, "mean_difference": 0.0001},
        {"planted": 0.005, "n_studies": 100, "told_apart": 0.91, "equivalent": 0.02,
         "covered": 0.94, "n_seeds": 10, "n_prompts": 800, "mean_difference": 0.0051},
        {"planted": 0.02, "n_studies": 100, "told_apart": 1.0, "equivalent": 0.0,
         "covered": 0.96, "n_seeds": 10, "n_prompts": 800, "mean_difference": 0.0198},
    ],
    "command": "python -m benchmarks.instrument",
    "commit": "15a048b",
}  # fmt: skip
SCALING = {
    "rows": [
        {"arm": arm, "n_qubits": n, "n_layers": 3, "loss": 6.9 - 0.07 * n + behind,
         "standard_error": 0.01, "multiply_adds": 4 * n * 2**n}
        for arm, behind in (("ring", 0.0), ("identity", -0.1), ("affine", -0.115))
        for n in (4, 6, 8, 10)
    ]
}  # fmt: skip
