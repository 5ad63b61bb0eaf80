"""Losses of the hybrid head, and their gradients, in one pass over the vocabulary projection.

Consider a loss of a row that depends on the log-probabilities of a few listed tokens only. Examples
are cross-entropy (the target's) and the divergence from a teacher's top k and one bucket for the
rest (those k; the bucket is one minus their sum). Let X be logits, p = softmax(X), and s_k the
derivatives of the loss by log p_k of the listed tokens. Then

    dL/dX_v = sum_k s_k [v = k] - (sum_k s_k) p_v.

So a chunk of rows is projected onto the vocabulary once. A first sweep over its logits gives the
normalisers. The objective is a function of a few log-probabilities a row, which torch
differentiates. A second sweep replaces the logits by their gradient, and two matrix products
propagate that to features and decoder. Here X is C, Q and, where logits are mixed, H: dL/dC =
w_c dL/dH + ..., dL/dQ = w_q dL/dH + .... Mixed probabilities need no H, since log-probabilities of
the mixture follow from those of C and Q.

The gradient is computed in the forward pass and scaled in the backward pass, since the objective is
one number (as in Liger Kernel, Hsu et al. 2024, arXiv:2410.10989). So the weight of each row's loss
must be known in the forward pass, a second derivative is refused, and the first one can be taken
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from quantum_hybrid.compiled.layout import VECTOR_ROWS
from quantum_hybrid.processes.ranks import ALONE, Ranks
from quantum_hybrid.student import HybridHead
from quantum_hybrid.training.head_pass.sweeps import (
    Mixture,
    Sweeps,
    likeliest,
    sweeps_over,
)

CHUNK_NUMBERS = 2**25
"""Logits in memory at a time: 128 MiB in float32, 656 rows at GPT-2's vocabulary."""


@dataclass(frozen=True)
class LogProbabilities:
    """Log-probabilities of the listed tokens, in nats: three predictions and an ablated one."""

    hybrid: Float[Tensor, "rows listed"]
    classical: Float[Tensor, "rows listed"]
    quantum: Float[Tensor, "rows listed"]
    ablated: Float[Tensor, "rows listed"]
    """The hybrid's with Q replaced by its mean over the rows of all processes; without gradient."""


Objective = Callable[[LogProbabilities, slice], Float[Tensor, ""]]
"""The part of the objective that the rows of a slice contribute. Only the log-probabilities get a
gradient: the function must not depend on anything else that needs one."""


def one_pass(
    head: HybridHead,
    hidden: Float[Tensor, "rows d_model"],
    listed: Int[Tensor, "rows listed"],
    objective: Objective,
    ranks: Ranks = ALONE,
    *,
    n_likeliest: int = 0,
    ends: Sequence[int] | None = None,
) -> tuple[Float[Tensor, ""], LogProbabilities]:
    """The objective, summed over all rows and differentiable once, and the log-probabilities.

    `objective` is called for one chunk of rows after the other. The log-probabilities returned have
    no gradient. Under ``torch.autocast`` everything is computed in the dtype of the head.

    Args:
        head: its parameters get gradients.
        hidden: hidden states.
        listed: token ids; a token may be listed twice.
        objective: see `Objective`.
        ranks: the processes over which the ablation's mean is taken.
        n_likeliest: the hybrid's most likely tokens of each row that are appended to the listed
            ones, most likely first. Their choice has no gradient, their log-probabilities do. See
            `sweeps.likeliest` for the cost.
        ends: row counts after which a chunk may end, ascending, the last one all rows; None for
            anywhere. An objective that couples rows needs them in one chunk. A chunk exceeds
            `CHUNK_NUMBERS` only if `ends` allow no smaller one.

    Raises:
        ValueError: there is no row, `listed` has a different number of rows or a number that is not
            a token id (such as the mark of a row without a target), or `ends` does not end with the
            number of rows.
        RuntimeError: in the backward pass, a second derivative or a second backward pass is asked
            for.
    """
    if ends is not None and (not ends or ends[-1] != len(hidden)):
        raise ValueError(
            f"ends is {list(ends)}; allowed: ascending, the last one the number of rows, "
            f"{len(hidden)}"
        )
    _check(hidden, listed, head.classical.decoder.out_features)
    of_logits, kind = head.mixing == "logits", hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(head.classical.decoder.weight.dtype)
    with torch.autocast(kind, enabled=False):
        tensors = _given(head, hidden, of_logits)
        if not torch.is_grad_enabled():
            tensors = tensors.detached()
        mean_points = ranks.mean(tensors.points.detach().mean(0), len(hidden))
        asked = _Asked(listed, objective, of_logits, mean_points, n_likeliest, ends)
        value, *log_p = _OnePass.apply(asked, *tensors)
    return value, LogProbabilities(*log_p)


def _check(hidden: Tensor, listed: Tensor, n_words: int) -> None:
    if not 0 < len(hidden) == len(listed):
        raise ValueError(
            f"hidden has {len(hidden)} rows, listed {len(listed)}; allowed: the same number, at "
            "least one"
        )
    least, most = (int(end) for end in listed.aminmax())
    if least < 0 or most >= n_words:
        raise ValueError(
            f"tokens {least} to {most} are listed; allowed: 0 to {n_words - 1}; "
            "leave out rows that have no target"
        )


def _given(head: HybridHead, hidden: Tensor, of_logits: bool) -> _Tensors:
    classical, up = head.classical, head.quantum.up
    z = head.expectations(hidden)
    return _Tensors(
        classical.features(hidden),
        classical.decoder.weight,
        classical.bias(),
        torch.cat([z, z.new_ones(len(z), 1)], 1),
        torch.cat([up.weight, up.bias[:, None]], 1),
        torch.stack(head.weights() if of_logits else head.log_weights()),
    )


class _Asked(NamedTuple):
    """The arguments of `one_pass` that have no gradient."""

    listed: Tensor
    objective: Objective
    of_logits: bool
    mean_points: Float[Tensor, " m"]
    """Mean over the rows of all processes."""
    n_likeliest: int
    ends: Sequence[int] | None


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, asked: _Asked, *tensors: Any) -> tuple[Tensor, ...]:
        wanted = ctx.needs_input_grad[1:]
        run = _Run(_Tensors(*tensors).detached(), asked, wanted)
        value, log_p = run.all_rows()
        if run.gradients is not None:
            pairs = zip(run.gradients, wanted, strict=True)
            ctx.gradients = [gradient if want else None for gradient, want in pairs]
        ctx.mark_non_differentiable(*log_p)
        return value, *log_p

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a second derivative is not supported by this pass; use the head's logits"
            )
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradient of this pass was already taken and is not kept; run the pass again"
            )
        # No reference is kept, so torch takes the tensors over without a copy.
        gradients, ctx.gradients = ctx.gradients, None
        if upstream.item() != 1:
            gradients = [None if g is None else g.mul_(upstream) for g in gradients]
        return None, *gradients


class _Tensors(NamedTuple):
    """The tensors that get gradients: C = features decoder^T + bias, Q = points readout^T.

    H = weights[0] C + weights[1] Q; if probabilities are mixed, the weights are logarithms.
    """

    features: Tensor
    decoder: Tensor
    bias: Tensor | None
    points: Tensor
    readout: Tensor
    weights: Tensor

    def detached(self) -> _Tensors:
        """The same tensors without their graph."""
        bias = None if self.bias is None else self.bias.detach()
        rest = (tensor.detach() for tensor in self[3:] if tensor is not None)
        return _Tensors(self.features.detach(), self.decoder.detach(), bias, *rest)


class _Gradients(NamedTuple):
    """Gradients by `_Tensors`; that by the decoder costs as much as all others together, so it is
    computed only if needed."""

    features: Tensor
    decoder: Tensor | None
    bias: Tensor | None
    points: Tensor
    readout: Tensor
    weights: Tensor


class _Chunk(NamedTuple):
    """Some rows, padded with rows of zeros to a multiple of ``VECTOR_ROWS``."""

    rows: slice
    features: Tensor
    points: Tensor
    logits: Float[Tensor, "vocabulary filled_rows"]


class _Listed(NamedTuple):
    """The listed tokens and their logits, each (rows, listed)."""

    ids: Tensor
    classical: Tensor
    quantum: Tensor
    mean_quantum: Tensor


class _Run:
    """One forward pass, which also computes the gradients if any of them is needed."""

    def __init__(self, tensors: _Tensors, asked: _Asked, wanted: tuple[bool, ...]) -> None:
        self._given, self._asked = tensors, asked
        self._mixture = Mixture(tensors.weights, asked.of_logits)
        self._mean_quantum = tensors.readout @ asked.mean_points
        self.gradients: _Gradients | None = None
        if any(wanted):
            # The decoder's gradient is as large as the decoder, and is most often not needed.
            small = (tensors.features, tensors.points, tensors.readout, tensors.weights)
            features, *others = (torch.zeros_like(tensor) for tensor in small)
            decoder = torch.zeros_like(tensors.decoder) if wanted[1] else None
            bias = torch.zeros_like(tensors.decoder[:, 0]) if wanted[2] else None
            self.gradients = _Gradients(features, decoder, bias, *others)

    def all_rows(self) -> tuple[Tensor, list[Tensor]]:
        """The objective, and the fields of `LogProbabilities`, over all rows."""
        n_rows, n_words = len(self._given.features), len(self._given.decoder)
        # Chunks of equal size in whole vectors: a small last chunk costs as much as a full one.
        n_chunks = -(
            -n_rows // max(VECTOR_ROWS, CHUNK_NUMBERS // n_words // VECTOR_ROWS * VECTOR_ROWS)
        )
        step = -(-n_rows // (n_chunks * VECTOR_ROWS)) * VECTOR_ROWS
        chunks = _chunks(n_rows, step, self._asked.ends)
        longest = max(rows.stop - rows.start for rows in chunks)
        # One block of memory for all chunks: nothing else here is nearly as large.
        memory = self._given.features.new_empty(n_words * -(-longest // VECTOR_ROWS) * VECTOR_ROWS)
        value, found = self._given.features.new_zeros(()), []
        for rows in chunks:
            part, log_p = self._some_rows(rows, memory)
            value += part
            found.append(log_p)
        return value, [torch.cat(column) for column in zip(*found, strict=True)]

    def _some_rows(self, rows: slice, memory: Tensor) -> tuple[Tensor, list[Tensor]]:
        given, n = self._given, rows.stop - rows.start
        chunk = self._project(rows, memory)
        sweeps = sweeps_over(chunk.logits, given.readout, chunk.points, self._mixture)
        normalisers = sweeps.normalisers(given.weights[1] * self._mean_quantum)
        listed = self._listed(chunk, normalisers)
        # Q of the listed tokens only: the sweeps do not store Q.
        quantum = (given.readout[listed] @ chunk.points[:n, :, None]).squeeze(-1)
        classical = chunk.logits.gather(0, listed.T).T
        at = _Listed(listed, classical, quantum, self._mean_quantum[listed])
        log_p, leaves = self._log_probabilities(at, normalisers[:, :n, None])
        # A few numbers a row: torch differentiates the objective, so it can be any function.
        with torch.enable_grad():
            value = self._asked.objective(log_p, rows)
        if self.gradients is not None:
            slopes = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
            self._add(self.gradients, chunk, sweeps, normalisers, at, slopes)
        parts = (log_p.hybrid, log_p.classical, log_p.quantum, log_p.ablated)
        return value.detach(), [part.detach() for part in parts]

    def _project(self, rows: slice, memory: Tensor) -> _Chunk:
        given, fill = self._given, (0, 0, 0, -(rows.stop - rows.start) % VECTOR_ROWS)
        features, points = F.pad(given.features[rows], fill), F.pad(given.points[rows], fill)
        # (words, rows): a word's logits for neighbouring rows form a vector.
        logits = memory[: len(given.decoder) * len(features)].view(-1, len(features))
        if given.bias is None:
            torch.mm(given.decoder, features.T, out=logits)
        else:
            torch.addmm(given.bias[:, None], given.decoder, features.T, out=logits)
        return _Chunk(rows, features, points, logits)

    def _listed(self, chunk: _Chunk, normalisers: Float[Tensor, "4 filled_rows"]) -> Tensor:
        """(rows, listed): the given tokens, then the most likely ones."""
        listed, count = self._asked.listed[chunk.rows], self._asked.n_likeliest
        if count == 0:
            return listed
        given, n = self._given, len(listed)
        chosen = likeliest(
            chunk.logits[:, :n],
            given.readout,
            chunk.points[:n],
            self._mixture,
            normalisers[:, :n],
            count,
        )
        return torch.cat([listed, chosen], 1)

    @torch.enable_grad()
    def _log_probabilities(
        self, at: _Listed, normalisers: Float[Tensor, "4 rows 1"]
    ) -> tuple[LogProbabilities, list[Tensor]]:
        """The log-probabilities, and the tensors by which the objective is differentiated."""
        w, weights = self._given.weights, self._given.weights.clone().requires_grad_()
        classical = (at.classical - normalisers[0]).requires_grad_()
        quantum = (at.quantum - normalisers[1]).requires_grad_()
        leaves = [classical, quantum, weights]
        if self._mixture.of_logits:
            mixed = w[0] * at.classical + w[1] * at.quantum
            hybrid = (mixed - normalisers[2]).requires_grad_()
            ablated = w[0] * at.classical + w[1] * at.mean_quantum - normalisers[3]
            leaves.append(hybrid)
        else:
            # log(w_c p_c + w_q p_q) from logarithms: no probability underflows.
            mean_quantum = at.mean_quantum - self._mean_quantum.logsumexp(0)
            hybrid = torch.logaddexp(weights[0] + classical, weights[1] + quantum)
            ablated = torch.logaddexp(w[0] + classical, w[1] + mean_quantum).detach()
        return LogProbabilities(hybrid, classical, quantum, ablated), leaves

    def _add(
        self,
        gradients: _Gradients,
        chunk: _Chunk,
        sweeps: Sweeps,
        normalisers: Float[Tensor, "4 filled_rows"],
        at: _Listed,
        slopes: Sequence[Tensor],
    ) -> None:
        """Add a chunk's gradients, by the formula of the module's docstring.

        slopes: the objective's derivatives by the log-probabilities of C and of Q, by the weights,
        and, if logits are mixed, by the log-probabilities of H.
        """
        given, w = self._given, self._given.weights
        listed, n = at.ids, len(at.classical)
        by_classical, by_quantum, by_weights = slopes[:3]
        by_hybrid = slopes[3] if self._mixture.of_logits else torch.zeros_like(by_classical)
        totals = [by_classical, by_quantum, w[0] * by_hybrid, w[1] * by_hybrid]
        # The term -(sum_k s_k) p_v, for all words.
        factors = F.pad(
            -torch.stack([total.sum(1) for total in totals]), (0, len(chunk.points) - n)
        )
        by_points, moments = sweeps.differentiate(normalisers, factors, gradients.readout)
        logits = chunk.logits  # Now the gradient by C, without the next term.
        # The term sum_k s_k [v = k], for the listed words.
        logits.scatter_add_(0, listed.T, (by_classical + w[0] * by_hybrid).T)
        by_quantum = by_quantum + w[1] * by_hybrid
        by_points[:n] += (by_quantum[:, None] @ given.readout[listed]).squeeze(1)
        products = by_quantum[:, :, None] * chunk.points[:n, None]
        gradients.readout.index_add_(0, listed.flatten(), products.flatten(0, 1))
        gradients.points[chunk.rows] = by_points[:n]
        gradients.weights.add_(by_weights)
        if self._mixture.of_logits:
            # dL/dw for H = w_c C + w_q Q: the listed words' logits minus their mean under p_H.
            both = torch.stack([at.classical, at.quantum])
            by_mixture = (by_hybrid * both).sum((1, 2)) - moments[:, :n] @ by_hybrid.sum(1)
            gradients.weights.add_(by_mixture)
        # Half or more of the arithmetic of a training step, as two large matrix products.
        torch.mm(logits[:, :n].T, given.decoder, out=gradients.features[chunk.rows])
        if gradients.decoder is not None:
            gradients.decoder.addmm_(logits, chunk.features)
        if gradients.bias is not None:
            gradients.bias.add_(logits.sum(1))


def _chunks(n_rows: int, step: int, ends: Sequence[int] | None) -> list[slice]:
    """The fewest chunks of at most `step` rows that `ends` allow; longer ones if they must be."""
    if ends is None:
        return [slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step)]
    chunks, start = [], 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - start > step:
            chunks.append(slice(start, end))
            start = end
    return chunks
