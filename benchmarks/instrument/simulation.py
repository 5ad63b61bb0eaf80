"""One simulated study: both arms trained and evaluated on what the hidden teacher writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.instrument.cases import Case, Outcome, Size
from benchmarks.instrument.world import HELD_OUT, INITIAL, ORDER, TRAINING, Teacher, World
from quantum_hybrid.study.arms import SUBJECT
from quantum_hybrid.study.fits.fit import Fit, batches
from quantum_hybrid.study.fits.sampling import half_sample
from quantum_hybrid.study.verdict import compare


@dataclass(frozen=True)
class Losses:
    """Of one simulated study, summed over the rows of a prompt, in nats."""

    subject: Float[np.ndarray, "seeds prompts"]
    rival: Float[np.ndarray, "seeds prompts"]
    tokens: Float[np.ndarray, " prompts"]

    @property
    def difference(self) -> float:
        """Rival minus subject, in nats per token."""
        return float((self.rival - self.subject).sum(1).mean() / self.tokens.sum())


def simulate(world: World, teacher: Teacher, case: Case, seed: int) -> Losses:
    """Train and evaluate the subject and the rival on what the teacher writes."""
    size = world.size
    of_training = world.generator(TRAINING, case.training_set(seed))
    training = teacher.draw(*world.training.draw(size.n_training, of_training), of_training)
    of_held_out = world.generator(HELD_OUT, seed)
    held_out = teacher.draw(*world.held_out.draw(size.n_held_out, of_held_out), of_held_out)
    of_unit = training.prompts.argsort(stable=True).split(
        torch.bincount(training.prompts, minlength=size.n_training).tolist()
    )
    sums = []
    for s in range(size.n_seeds):
        generator = world.generator(ORDER, seed, s)
        units = half_sample(size.n_training, generator)
        sample = torch.cat([of_unit[unit] for unit in units.tolist()])
        contenders = [
            world.contender(SUBJECT, world.number(INITIAL, seed, s)),
            world.contender(case.rival, _rival_s_seed(world, case, seed, s)),
        ]
        readouts = world.calibration.readouts(contenders, world.untouched)
        order = batches(len(sample), 1, generator)
        fit = Fit(contenders, readouts, world.decoder, n_steps=len(order))
        for numbers in order:
            fit.step(training[sample[numbers]])
        sums.append(fit.prompt_losses(held_out, size.n_held_out).numpy())
    subject, rival = np.stack(sums, 1)
    return Losses(subject, rival, np.bincount(held_out.prompts.numpy()).astype(float))


def outcomes(losses: Losses, case: Case, seed: int, size: Size) -> Iterator[Outcome]:
    """What the study says, then what its parts would have said."""
    for n_seeds, n_prompts in ((size.n_seeds, size.n_held_out), *size.parts):
        subject, rival = (part[:n_seeds, :n_prompts] for part in (losses.subject, losses.rival))
        tokens = losses.tokens[:n_prompts]
        (found,) = compare(subject, {case.rival: rival}, tokens, size.margin, seed)
        squares = found.difference.mean_squares
        yield Outcome(
            case.name, seed, case.training_set(seed), n_seeds, n_prompts, found.difference.mean,
            found.difference.standard_error, *found.interval, found.p_different,
            found.verdict.value, (squares.seed, squares.prompt, squares.rest),
        )  # fmt: skip


def find_kappa(
    difference: Callable[[float], float], wanted: float, first: float = 0.5, steps: int = 3
) -> float:
    """kappa at which `difference` is as wanted, by the secant rule on its square.

    A small Q changes a loss in proportion to its variance. Rounded to four digits.
    """
    known = [(0.0, difference(0.0)), (first**2, difference(first))]
    for _ in range(steps):
        (x0, y0), (x1, y1) = known[-2:]
        if y1 == y0:
            break
        x = x1 + (wanted - y1) * (x1 - x0) / (y1 - y0)
        x = min(max(x, x1 / 16), 16 * x1)
        kappa = round(x**0.5, 4)
        if any(kappa**2 == at for at, _ in known):
            return kappa
        known.append((kappa**2, difference(kappa)))
    return round(min(known, key=lambda pair: abs(pair[1] - wanted))[0] ** 0.5, 4)


def _rival_s_seed(world: World, case: Case, seed: int, s: int) -> int:
    """Initial values: the subject's, except that A/A is about other ones."""
    shift = world.size.n_seeds if case.rival == SUBJECT else 0
    return world.number(INITIAL, seed, s + shift)
