"""The native engine's loops over rows (see ``lanes``): one *tile* forward, one tile backward.

A tile is one sample for each lane (``Plan.n_lane_qubits`` = 0), or a single sample whose last
qubits are the lanes. Its state is ``2**n_row_qubits`` rows. With the first rotations part of the
product state that is encoded, and the last entangler part of the parities that are read, L - 1
layers of entangler and rotations remain. Each is a few *passes*, one for each group of up to four
neighbouring qubits; the first one of a layer reads its rows where the entangler had them.

Backward is the adjoint method (Jones & Gacon 2020, arXiv:2009.02823), but for one thing: the
states after each pass are computed again and kept, so that only the adjoint need be rotated back,
and all gradients of a pass come from the same registers.

Numba compiles this at the first call for a dtype, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from quantum_hybrid.circuit.lanes import (
    CHAIN_EVEN,
    CHAIN_ODD,
    RING_EVEN,
    RING_ODD,
    STRAIGHT,
    add_scaled,
    contract,
    expand,
    rotate,
    squares,
    times_parities,
    unrotate,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32] | NDArray[np.float64]
MAX_GROUP = 4
"""Qubits rotated in one pass: 16 rows, half of AVX-512's registers."""


class Plan(NamedTuple):
    """What the loops need to know of an ansatz; the groups are in order, the last qubits last."""

    n_qubits: int
    n_layers: int
    n_lanes: int
    n_lane_qubits: int
    """Qubits that are bits of the lane number; 0 if the lanes are samples."""
    crossing: int
    """``STRAIGHT``, ``CHAIN_EVEN`` or ``RING_EVEN``."""
    group_start: Ints
    """First qubit of each group."""
    group_size: Ints
    group_shift: Ints
    """Bit of the row number that is the group's last qubit."""
    group_offset: Ints
    """Where the group's part of ``bases`` begins."""
    bases: Ints
    """Rows of a group with all of its own bits 0, one for each outer index."""
    sources: Ints
    """The row that the entangler takes to each base."""
    images: Ints
    """(groups, MAX_GROUP), flat: each bit of a group as a row number; of the first group, as the
    entangler's source."""
    parity_low: Ints
    """For each output the last group's part of its parity, as a number of ``squares``."""
    parity_high: Ints
    """For each output the part of the groups before."""


def scalars_forward(plan: Plan) -> int:
    """Length of ``work`` for `forward`."""
    rows = (2 << _n_row_qubits(plan)) + 2 * plan.n_qubits + 2**MAX_GROUP + plan.n_qubits
    return rows * plan.n_lanes


def scalars_backward(plan: Plan) -> int:
    """Length of ``work`` for `backward`."""
    n_passes = (plan.n_layers - 1) * len(plan.group_size)
    rows = (n_passes + 4) << _n_row_qubits(plan)
    rows += (4 + plan.n_layers) * plan.n_qubits + 2**MAX_GROUP
    return rows * plan.n_lanes


def _n_row_qubits(plan: Plan) -> int:
    return plan.n_qubits - plan.n_lane_qubits


@njit(nogil=True, cache=True)
def forward(outputs, cos, sin, tangents, scales, signs, lane_signs, plan, start, stop, work):
    """Outputs of tiles ``start`` to ``stop``.

    cos, sin: (samples, n), of half the angles of encoding and first rotations together.
    tangents: (L - 1) * n, of half the other angles. scales: (L,), what makes up for their cosines:
    the first for the encoded state, the others for the states of the later layers.
    signs: (n,), of each output. lane_signs: (n, lanes), of each output's parity within a row.
    """
    n_rows = 1 << (plan.n_qubits - plan.n_lane_qubits)
    width = plan.n_lanes
    size = n_rows * width
    state, other, at = work[:size], work[size : 2 * size], 2 * size
    trig, at = work[at : at + 2 * plan.n_qubits * width], at + 2 * plan.n_qubits * width
    folded, at = work[at : at + 16 * width], at + 16 * width
    sums = work[at : at + plan.n_qubits * width]
    for tile in range(start, stop):
        _encode(state, trig, cos, sin, scales[0], plan, tile)
        for layer in range(plan.n_layers - 1):
            for group in range(len(plan.group_size)):
                _rotate_pass(other, state, tangents, plan, layer, group)
                state, other = other, state
            _scale(state, scales[layer + 1])
        _read(sums, state, folded, signs, plan)
        for i in range(plan.n_qubits):
            row = sums[i * width : (i + 1) * width]
            if plan.n_lane_qubits == 0:
                for lane in range(min(width, len(outputs) - tile * width)):
                    outputs[tile * width + lane, i] = row[lane]
            else:
                total = 0.0
                for lane in range(width):
                    total += lane_signs[i, lane] * row[lane]
                outputs[tile, i] = total


@njit(nogil=True, cache=True)
def backward(
    grad_inputs, grad_tangents, grad_outputs, cos, sin, tangents, scales, signs, lane_signs, plan,
    start, stop, work,
):  # fmt: skip
    """Gradients of tiles ``start`` to ``stop``; arguments as in `forward`.

    grad_inputs: (samples, n), written. grad_tangents: (L - 1) * n, what is added is the gradient
    by the angles, in double precision.
    """
    n, width = plan.n_qubits, plan.n_lanes
    size = (1 << (n - plan.n_lane_qubits)) * width
    n_groups = len(plan.group_size)
    n_passes = (plan.n_layers - 1) * n_groups
    states, at = work[: (n_passes + 1) * size], (n_passes + 1) * size
    adjoint, at = work[at : at + size], at + size
    other, at = work[at : at + size], at + size
    prefixes, at = work[at : at + size], at + size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    factors, at = work[at : at + 16 * width], at + 16 * width
    cotangent, at = work[at : at + n * width], at + n * width
    by_input, at = work[at : at + n * width], at + n * width
    by_angle = work[at : at + plan.n_layers * n * width]
    by_angle[:] = 0
    for tile in range(start, stop):
        _load_cotangent(cotangent, grad_outputs, signs, lane_signs, plan, tile)
        _encode(states, trig, cos, sin, scales[0], plan, tile)
        _keep_prefixes(prefixes, trig, cos, sin, scales[0], plan, tile)
        for layer in range(plan.n_layers - 1):
            for group in range(n_groups):
                at = (layer * n_groups + group) * size
                here, there = states[at : at + size], states[at + size : at + 2 * size]
                _rotate_pass(there, here, tangents, plan, layer, group)
                if group == n_groups - 1:
                    _scale(there, scales[layer + 1])
        _seed(adjoint, states[n_passes * size :], factors, cotangent, plan)
        for layer in range(plan.n_layers - 2, -1, -1):
            for group in range(n_groups - 1, -1, -1):
                at = (layer * n_groups + group + 1) * size
                state = states[at : at + size]
                _unrotate_pass(other, adjoint, state, tangents, by_angle, plan, layer, group)
                adjoint, other = other, adjoint
                if group == n_groups - 1:
                    _scale(adjoint, scales[layer + 1])
        by_input[:] = 0
        _contract_all(adjoint, trig, prefixes, by_input, plan)
        _store_by_input(grad_inputs, by_input, adjoint, cos, sin, scales[0], plan, tile)
    _add_by_angle(grad_tangents, by_angle, plan)


@njit(inline="always")
def _encode(state, trig, cos, sin, scale, plan, tile):
    """The product state, scaled; and its factors, for every lane."""
    _load_trig(trig, cos, sin, plan, tile)
    _first_row(state, cos, sin, scale, plan, tile)
    for qubit in range(plan.n_qubits - plan.n_lane_qubits):
        for row in range((1 << qubit) - 1, -1, -1):
            expand(state, row, trig, qubit)


@njit(inline="always")
def _scale(state, factor):
    if factor != 1:
        for i in range(len(state)):
            state[i] *= factor


@njit(inline="always")
def _keep_prefixes(prefixes, trig, cos, sin, scale, plan, tile):
    """The product states of the qubits before each group, one after the other."""
    at = 0
    for group in range(len(plan.group_size)):
        state = prefixes[at * plan.n_lanes :]
        _first_row(state, cos, sin, scale, plan, tile)
        for qubit in range(plan.group_start[group]):
            for row in range((1 << qubit) - 1, -1, -1):
                expand(state, row, trig, qubit)
        at += 1 << plan.group_start[group]


@njit(inline="always")
def _load_trig(trig, cos, sin, plan, tile):
    width = plan.n_lanes
    for lane in range(width):
        # The last tile is filled up with copies of the last sample.
        sample = min(tile * width + lane, len(cos) - 1) if plan.n_lane_qubits == 0 else tile
        for qubit in range(plan.n_qubits):
            trig[2 * qubit * width + lane] = cos[sample, qubit]
            trig[(2 * qubit + 1) * width + lane] = sin[sample, qubit]


@njit(inline="always")
def _first_row(state, cos, sin, scale, plan, tile):
    """The scale, times the product state of the lanes' own qubits."""
    for lane in range(plan.n_lanes):
        value = scale
        for bit in range(plan.n_lane_qubits):
            qubit = plan.n_qubits - 1 - bit
            value *= sin[tile, qubit] if lane >> bit & 1 else cos[tile, qubit]
        state[lane] = value


@njit(inline="always")
def _rotate_pass(dst, src, tangents, plan, layer, group):
    k, shift = plan.group_size[group], plan.group_shift[group]
    n_outer = 1 << (plan.n_qubits - plan.n_lane_qubits - k)
    at = plan.group_offset[group]
    bases = plan.bases[at : at + n_outer]
    sources = plan.sources[at : at + n_outer] if group == 0 else bases
    images, i = plan.images, group * MAX_GROUP
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    if group == 0 and plan.crossing != STRAIGHT:
        for o in range(n_outer):
            d, s = bases[o], sources[o]
            if plan.crossing == CHAIN_EVEN:
                if d & 1:
                    rotate(4, 0, CHAIN_ODD, dst, d, shift, src, s, images, i, tangents, t, 0)
                else:
                    rotate(4, 0, CHAIN_EVEN, dst, d, shift, src, s, images, i, tangents, t, 0)
            elif d & 1:
                rotate(4, 0, RING_ODD, dst, d, shift, src, s, images, i, tangents, t, 0)
            else:
                rotate(4, 0, RING_EVEN, dst, d, shift, src, s, images, i, tangents, t, 0)
    elif plan.n_lane_qubits > 0 and group == len(plan.group_size) - 1:
        for o in range(n_outer):
            rotate(
                4, 1, STRAIGHT, dst, bases[o], shift, src, sources[o], images, i, tangents, t,
                lanes_t,
            )  # fmt: skip
    elif k == 4:
        for o in range(n_outer):
            d, s = bases[o], sources[o]
            rotate(4, 0, STRAIGHT, dst, d, shift, src, s, images, i, tangents, t, 0)
    elif k == 3:
        for o in range(n_outer):
            d, s = bases[o], sources[o]
            rotate(3, 0, STRAIGHT, dst, d, shift, src, s, images, i, tangents, t, 0)
    elif k == 2:
        for o in range(n_outer):
            d, s = bases[o], sources[o]
            rotate(2, 0, STRAIGHT, dst, d, shift, src, s, images, i, tangents, t, 0)
    else:
        for o in range(n_outer):
            d, s = bases[o], sources[o]
            rotate(1, 0, STRAIGHT, dst, d, shift, src, s, images, i, tangents, t, 0)


@njit(inline="always")
def _unrotate_pass(dst, adjoint, state, tangents, gradients, plan, layer, group):
    k, shift = plan.group_size[group], plan.group_shift[group]
    n_outer = 1 << (plan.n_qubits - plan.n_lane_qubits - k)
    at = plan.group_offset[group]
    bases = plan.bases[at : at + n_outer]
    sources = plan.sources[at : at + n_outer] if group == 0 else bases
    images, i = plan.images, group * MAX_GROUP
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    if group == 0 and plan.crossing != STRAIGHT:
        for o in range(n_outer):
            a, d = bases[o], sources[o]
            if plan.crossing == CHAIN_EVEN:
                if a & 1:
                    unrotate(
                        4, 0, CHAIN_ODD, dst, d, images, i, adjoint, state, a, shift, tangents, t,
                        0, gradients,
                    )  # fmt: skip
                else:
                    unrotate(
                        4, 0, CHAIN_EVEN, dst, d, images, i, adjoint, state, a, shift, tangents, t,
                        0, gradients,
                    )  # fmt: skip
            elif a & 1:
                unrotate(
                    4, 0, RING_ODD, dst, d, images, i, adjoint, state, a, shift, tangents, t,
                    0, gradients,
                )  # fmt: skip
            else:
                unrotate(
                    4, 0, RING_EVEN, dst, d, images, i, adjoint, state, a, shift, tangents, t,
                    0, gradients,
                )  # fmt: skip
    elif plan.n_lane_qubits > 0 and group == len(plan.group_size) - 1:
        for o in range(n_outer):
            unrotate(
                4, 1, STRAIGHT, dst, sources[o], images, i, adjoint, state, bases[o], shift,
                tangents, t, lanes_t, gradients,
            )  # fmt: skip
    elif k == 4:
        for o in range(n_outer):
            unrotate(
                4, 0, STRAIGHT, dst, sources[o], images, i, adjoint, state, bases[o], shift,
                tangents, t, 0, gradients,
            )  # fmt: skip
    elif k == 3:
        for o in range(n_outer):
            unrotate(
                3, 0, STRAIGHT, dst, sources[o], images, i, adjoint, state, bases[o], shift,
                tangents, t, 0, gradients,
            )  # fmt: skip
    elif k == 2:
        for o in range(n_outer):
            unrotate(
                2, 0, STRAIGHT, dst, sources[o], images, i, adjoint, state, bases[o], shift,
                tangents, t, 0, gradients,
            )  # fmt: skip
    else:
        for o in range(n_outer):
            unrotate(
                1, 0, STRAIGHT, dst, sources[o], images, i, adjoint, state, bases[o], shift,
                tangents, t, 0, gradients,
            )  # fmt: skip


@njit(inline="always")
def _odd(bits):
    for shift in (16, 8, 4, 2, 1):
        bits ^= bits >> shift
    return bits & 1


@njit(inline="always")
def _read(sums, state, folded, signs, plan):
    """Each output's parity, summed over the rows, lane by lane."""
    k = plan.group_size[-1]
    sums[:] = 0
    for block in range(1 << (plan.n_qubits - plan.n_lane_qubits - k)):
        if k == 4:
            squares(4, folded, state, block << 4)
        elif k == 3:
            squares(3, folded, state, block << 3)
        elif k == 2:
            squares(2, folded, state, block << 2)
        else:
            squares(1, folded, state, block << 1)
        for i in range(plan.n_qubits):
            sign = -signs[i] if _odd(block & plan.parity_high[i]) else signs[i]
            add_scaled(sums, i, folded, plan.parity_low[i], sign)


@njit(inline="always")
def _load_cotangent(cotangent, grad_outputs, signs, lane_signs, plan, tile):
    """Twice the gradient by each output, with all of its signs but those of the rows."""
    width = plan.n_lanes
    for i in range(plan.n_qubits):
        for lane in range(width):
            value = 0.0 * signs[i]
            if plan.n_lane_qubits > 0:
                value = 2 * signs[i] * lane_signs[i, lane] * grad_outputs[tile, i]
            elif tile * width + lane < len(grad_outputs):
                value = 2 * signs[i] * grad_outputs[tile * width + lane, i]
            cotangent[i * width + lane] = value


@njit(inline="always")
def _seed(adjoint, state, factors, cotangent, plan):
    """Gradient by the last state: the state times the signed sum of the cotangents."""
    k = plan.group_size[-1]
    one = cotangent.dtype.type(1)
    for block in range(1 << (plan.n_qubits - plan.n_lane_qubits - k)):
        factors[:] = 0
        for i in range(plan.n_qubits):
            sign = -one if _odd(block & plan.parity_high[i]) else one
            add_scaled(factors, plan.parity_low[i], cotangent, i, sign)
        if k == 4:
            times_parities(4, adjoint, state, block << 4, factors)
        elif k == 3:
            times_parities(3, adjoint, state, block << 3, factors)
        elif k == 2:
            times_parities(2, adjoint, state, block << 2, factors)
        else:
            times_parities(1, adjoint, state, block << 1, factors)


@njit(inline="always")
def _contract_all(adjoint, trig, prefixes, by_input, plan):
    """The adjoint against the product state, group by group from the last; row 0 keeps the rest."""
    at = 0
    for group in range(len(plan.group_size)):
        at += 1 << plan.group_start[group]
    for group in range(len(plan.group_size) - 1, -1, -1):
        k, q = plan.group_size[group], plan.group_start[group]
        at -= 1 << q
        before = prefixes[at * plan.n_lanes :]
        for o in range(1 << q):
            if k == 4:
                contract(4, adjoint, o, adjoint, o << 4, trig, q, before, o, by_input)
            elif k == 3:
                contract(3, adjoint, o, adjoint, o << 3, trig, q, before, o, by_input)
            elif k == 2:
                contract(2, adjoint, o, adjoint, o << 2, trig, q, before, o, by_input)
            else:
                contract(1, adjoint, o, adjoint, o << 1, trig, q, before, o, by_input)


@njit(inline="always")
def _store_by_input(grad_inputs, by_input, contracted, cos, sin, scale, plan, tile):
    width, n_row_qubits = plan.n_lanes, plan.n_qubits - plan.n_lane_qubits
    if plan.n_lane_qubits == 0:
        for lane in range(min(width, len(grad_inputs) - tile * width)):
            for qubit in range(n_row_qubits):
                grad_inputs[tile * width + lane, qubit] = 0.5 * by_input[qubit * width + lane]
        return
    for qubit in range(n_row_qubits):
        total = 0.0
        for lane in range(width):
            total += by_input[qubit * width + lane]
        grad_inputs[tile, qubit] = 0.5 * total
    for turned in range(plan.n_lane_qubits):
        total = 0.0
        for lane in range(width):
            value = scale * contracted[lane]
            for bit in range(plan.n_lane_qubits):
                qubit = plan.n_qubits - 1 - bit
                c, s = cos[tile, qubit], sin[tile, qubit]
                if bit == turned:
                    c, s = -s, c
                value *= s if lane >> bit & 1 else c
            total += value
        grad_inputs[tile, plan.n_qubits - 1 - turned] = 0.5 * total


@njit(inline="always")
def _add_by_angle(grad_tangents, by_angle, plan):
    width, n_row_qubits = plan.n_lanes, plan.n_qubits - plan.n_lane_qubits
    for row in range(len(grad_tangents)):
        qubit = row % plan.n_qubits
        for lane in range(width):
            value = 0.5 * by_angle[row * width + lane]
            within = qubit >= n_row_qubits and lane >> (plan.n_qubits - 1 - qubit) & 1
            grad_tangents[row] += -value if within else value
