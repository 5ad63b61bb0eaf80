"""Train many arms side by side on the same batches, and evaluate them.

Each contender is an arm with its own `down`, `up` and settings. They see the same rows in the same
order and do not influence each other: the sum of their losses has the gradients of each. What they
share is computed once: the classical logits of a batch, and the pass over the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam

from quantum_hybrid.student.head import ANGLE_SCALE
from quantum_hybrid.study.arms import Arm, ArmMap, Shape
from quantum_hybrid.study.fits.readouts import Readouts, classical_logits

BATCH_ROWS = 128
UP_EPSILON = 1e-3
"""Adam's epsilon for `up`. Most words have gradients far below it, which Adam would otherwise scale
up to full steps: noise that was worth a quarter of a nat (docs/log.md#referee)."""
SMALLEST_VARIANCE = 1e-12
"""Smaller ones of z are near those of rounding, 4e-15: its numbers are float32 in [-1, 1]."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises linearly; it falls linearly afterwards."""


@dataclass(frozen=True)
class Rows:
    """Answer tokens as the arms see them."""

    g: Float[Tensor, "rows d_model"]
    """Last hidden state of the frozen backbone, after its norm, from which a token is predicted."""
    targets: Int[Tensor, " rows"]
    """The token that follows."""
    prompts: Int[Tensor, " rows"]
    """Number of the row's prompt, from 0."""
    features: Float[Tensor, "rows d_model"] | None = None
    """Input of the decoder for the classical logits; None if there are none."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.targets)

    def __getitem__(self, which: Tensor) -> Rows:
        """The rows of these numbers."""
        features = None if self.features is None else self.features[which]
        return Rows(self.g[which], self.targets[which], self.prompts[which], features)


@dataclass(frozen=True)
class Settings:
    """What is tuned for each arm. A matrix has its rate divided by the root of its fan-in."""

    up_rate: float
    """Learning rate of `up` (U, b and t)."""
    down_rate: float
    """Learning rate of `down`, in units of the spread: what is good then depends on no spread."""
    map_rate: float
    """Learning rate of the arm's map: of a circuit's angles in radians."""
    spread: float
    """Standard deviation of down(g) at the start: how far the angles use the range. With a small
    one any smooth map is close to a linear one."""


@dataclass(frozen=True)
class Start:
    """The common start of all arms' `down`."""

    weight: Float[Tensor, "n d_model"]
    bias: Float[Tensor, " n"]
    """With them down(g) has mean 0 and standard deviation 1 on the calibration rows."""

    def down(self, spread: float) -> nn.Linear:
        """g to n numbers with this standard deviation."""
        n, d_model = self.weight.shape
        down = nn.Linear(d_model, n)
        with torch.no_grad():
            down.weight.copy_(spread * self.weight)
            down.bias.copy_(spread * self.bias)
        return down


class Contender(nn.Module):
    """down, s tanh, f, centring and whitening: from g to the numbers that `up` reads.

    In training the mean is that of the batch, so that an arm whose map moves does not shift z,
    where U would be a second bias. `settle` fixes the mean afterwards. The whitening is that of the
    start: otherwise the spread of z would set the rate at which its weights learn.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, arm: Arm, settings: Settings, start: Start, shape: Shape, seed: int) -> None:
        super().__init__()
        self.arm, self.settings = arm, settings
        self.down = start.down(settings.spread)
        self.map: ArmMap = arm.build(shape, seed)
        self.register_buffer("mean", torch.zeros(shape.n))
        self.register_buffer("whitening", torch.eye(shape.n))

    @classmethod
    def blank(
        cls, arm: Arm, settings: Settings, shape: Shape, d_model: int, seed: int
    ) -> Contender:
        """One whose state is to be loaded."""
        start = Start(torch.zeros(shape.n, d_model), torch.zeros(shape.n))
        return cls(arm, settings, start, shape, seed).eval()

    def angles(self, g: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows n"]:
        """Input of the arm's map, in (-s, s)."""
        return ANGLE_SCALE * torch.tanh(self.down(g))

    def forward(self, g: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows n"]:
        z = self.map(self.angles(g))
        return (z - (z.mean(0) if self.training else self.mean)) @ self.whitening

    @torch.no_grad()
    def begin(self, g: Float[Tensor, "rows d_model"]) -> None:
        """Centre the map for these rows, and whiten its outputs: mean 0, covariance 1.

        Directions without variance, of an arm that does not see g, stay zero.
        """
        self.map.centre(self.angles(g))
        z = self.map(self.angles(g)).double()
        variances, directions = torch.linalg.eigh(z.T.cov(correction=0))
        seen = variances > SMALLEST_VARIANCE
        scales = torch.where(seen, variances.clamp_min(SMALLEST_VARIANCE).rsqrt(), 0.0)
        self.whitening.copy_((directions * scales) @ directions.T)
        self.settle(g)

    @torch.no_grad()
    def settle(self, g: Float[Tensor, "rows d_model"]) -> None:
        """Fix the mean of z at that of these rows: training has not begun, or is over."""
        self.mean.copy_(self.map(self.angles(g)).double().mean(0))
        self.eval()

    @property
    def n_directions(self) -> int:
        """Directions in which z varied at the start."""
        return int(torch.linalg.matrix_rank(self.whitening))


class Fit:
    """Contenders in training on the same rows."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        readouts: Readouts,
        decoder: Float[Tensor, "words d_model"],
        bias: Float[Tensor, " words"] | None = None,
        *,
        n_steps: int,
    ) -> None:
        """decoder, bias: of the classical logits; used if the rows have `features`."""
        self.contenders, self.readouts = contenders, readouts
        self._decoder, self._bias = decoder, bias
        self._n_steps, self._step = n_steps, 0
        self._optimizer = Adam(self._groups(), fused=True)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]

    def _groups(self) -> Iterator[dict]:
        readouts = self.readouts
        for i, contender in enumerate(self.contenders):
            rates = contender.settings
            up = [readouts.weights[i], readouts.biases[i], readouts.log_scales[i]]
            yield {"params": up, "lr": rates.up_rate, "eps": UP_EPSILON}
            down, of_down = contender.down, rates.down_rate * rates.spread
            yield {"params": list(down.parameters()), "lr": of_down * down.in_features**-0.5}
            fan_ins = contender.map.fan_ins()
            for parameter in contender.map.parameters():
                if parameter.requires_grad:
                    rate = rates.map_rate * fan_ins.get(parameter, 1) ** -0.5
                    yield {"params": [parameter], "lr": rate}

    def step(self, batch: Rows) -> Float[Tensor, " contenders"]:
        """Train on a batch; the mean loss of each contender before it, in nats."""
        for contender in self.contenders:
            contender.train()
        points = self._points(batch)
        losses, by_points = self.readouts.backward(
            points.detach(), batch.targets, self._classical(batch)
        )
        for contender in self.contenders:
            contender.zero_grad(set_to_none=True)
        points.backward(by_points)
        schedule = _schedule(self._step, self._n_steps)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * schedule
        self._optimizer.step()
        self._step += 1
        return losses.mean(1)

    def settle(self, g: Float[Tensor, "rows d_model"]) -> None:
        """End the training: the means of all contenders are those of these rows."""
        for contender in self.contenders:
            contender.settle(g)

    @torch.no_grad()
    def prompt_losses(self, rows: Rows, n_prompts: int) -> Float[Tensor, "contenders prompts"]:
        """Loss of each prompt, summed over its rows, in nats. After the training is settled."""
        sums = torch.zeros(len(self.contenders), n_prompts, dtype=torch.float64)
        for batch in _in_order(rows):
            classical = self._classical(batch)
            losses = self.readouts.losses(self._points(batch), batch.targets, classical)
            sums.index_add_(1, batch.prompts, losses.double())
        return sums

    def _points(self, batch: Rows) -> Float[Tensor, "contenders rows n"]:
        return torch.stack([contender(batch.g) for contender in self.contenders])

    def _classical(self, batch: Rows) -> Tensor | None:
        if batch.features is None:
            return None
        return classical_logits(batch.features, self._decoder, self._bias)


def batches(n_rows: int, n_epochs: int, generator: torch.Generator) -> list[Tensor]:
    """Numbers of the rows of each step: every epoch in an order of its own, the rest left out.

    Raises `ValueError` for fewer rows than a batch: nothing would be trained.
    """
    n_steps = n_rows // BATCH_ROWS
    if n_steps == 0:
        raise ValueError(f"{n_rows} rows: at least {BATCH_ROWS} are needed, one batch")
    orders = [torch.randperm(n_rows, generator=generator) for _ in range(n_epochs)]
    return [part for order in orders for part in order[: n_steps * BATCH_ROWS].split(BATCH_ROWS)]


def _in_order(rows: Rows) -> Iterator[Rows]:
    for numbers in torch.arange(len(rows)).split(BATCH_ROWS):
        yield rows[numbers]


def _schedule(step: int, n_steps: int) -> float:
    """Factor of the learning rates: up to 1, then down to 0."""
    done = (step + 0.5) / n_steps
    return min(done / WARM_UP, (1 - done) / (1 - WARM_UP))
