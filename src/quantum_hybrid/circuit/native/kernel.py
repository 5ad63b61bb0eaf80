"""The native engine's loops over rows (see ``lanes``): tiles forward, tiles backward.

A *tile* is one sample for each lane (``Plan.n_lane_qubits`` = 0), or a single sample whose last
qubits are the lanes. Its state is ``2**n_row_qubits`` rows. With the first rotations part of the
product state that is encoded, and the last entangler part of the parities that are read, L - 1
layers of entangler and rotations remain. Each is a few *passes*, one for each group of
neighbouring qubits; the first one of a layer reads its rows where the entangler had them. From
``Plan.first_local`` on passes stay within blocks of a state, and are done block by block.

Backward is the adjoint method (Jones & Gacon 2020, arXiv:2009.02823), but for one thing: the
states after each pass are computed again and kept, so that only the adjoint need be rotated back,
and all gradients of a pass come from the same registers.

Tiles are worked on in chunks, and any number of threads may be in `forward` or `backward` for the
same arrays at once: each takes the next chunk as ``counters`` tell. What a chunk is does not depend
on them, so no digit of the result does.

Numba compiles this at the first call for a dtype, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math

from numba import njit

from quantum_hybrid.circuit.native.angles import sum_chunks
from quantum_hybrid.circuit.native.columns import load_column, store_column
from quantum_hybrid.circuit.native.parities import add_parities, fold, spread_parities, unfold
from quantum_hybrid.circuit.native.products import contract, expand
from quantum_hybrid.circuit.native.rotations import rotate, unrotate
from quantum_hybrid.circuit.native.trigonometry import LARGEST_ANGLE, turn
from quantum_hybrid.compiled.lanes import MAX_GROUP, RUN
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.threads import next_number


@compiled
def forward(outputs, inputs, rotations, plan, chunk_tiles, counters, work):
    """Outputs ``(samples, n)`` of inputs ``(samples, n)``, in radians.

    rotations: as of `angles.rotations_of`. counters: two zeros at first, the threads' own from then
    on.
    """
    n, width = plan.n_qubits, plan.n_lanes
    size, block = (1 << (n - plan.n_lane_qubits)) * width, plan.block_rows * width
    state, at = work[:size], size + 2 * plan.skew
    other, at = work[at : at + size], at + size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    sums, at = work[at : at + (n + 3) * width], at + (n + 3) * width
    signed = work[at : at + (2 << MAX_GROUP) * width]
    first_cos, first_sin, tangents, scales, signs, _ = rotations
    n_tiles = _count_tiles(inputs, plan)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_trig(trig, inputs, first_cos, first_sin, plan, tile)
            _encode(state, other, trig, scales[0], plan)
            for layer in range(plan.n_layers - 1):
                for group in range(plan.first_local):
                    _rotate_pass(other, 0, state, 0, tangents, plan, layer, group)
                    state, other = other, state
                for at in range(0, size, block):
                    for group in range(plan.first_local, len(plan.group_size)):
                        _rotate_pass(state, at, state, at, tangents, plan, layer, group)
                _scale(state, scales[layer + 1])
            _read(sums, other, signed, state, plan)
            _store_outputs(outputs, sums, signs, plan, tile)
        chunk = next_number(counters, 0)


@compiled
def backward(
    grad_inputs, grad_weights, by_chunk, grad_outputs, inputs, rotations, plan, chunk_tiles,
    counters, work,
):  # fmt: skip
    """Gradients by inputs ``(samples, n)`` and weights ``(L, n)``; arguments as in `forward`.

    by_chunk: (chunks, L n), in double precision, for each chunk's part of the weights' gradient.
    """
    n, width = plan.n_qubits, plan.n_lanes
    size, block = (1 << (n - plan.n_lane_qubits)) * width, plan.block_rows * width
    n_groups = len(plan.group_size)
    n_passes = (plan.n_layers - 1) * n_groups
    step = size + 2 * plan.skew  # from each kept state to the next
    states, at = work[: n_passes * step + size], (n_passes + 1) * step + plan.skew
    adjoint, at = work[at : at + size], at + size + 2 * plan.skew
    other, at = work[at : at + size], at + size
    prefixes, at = work[at : at + size], at + size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    cotangent, at = work[at : at + (n + 3) * width], at + (n + 3) * width
    factors, at = work[at : at + (2 << MAX_GROUP) * width], at + (2 << MAX_GROUP) * width
    by_input, at = work[at : at + n * width], at + n * width
    by_angle = work[at : at + plan.n_layers * n * width]
    by_later_angle = by_angle[n * width :]
    first_cos, first_sin, tangents, scales, signs, angle_signs = rotations
    n_tiles, n_chunks = _count_tiles(inputs, plan), len(by_chunk)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        by_angle[:] = 0
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_trig(trig, inputs, first_cos, first_sin, plan, tile)
            _encode(states, prefixes, trig, scales[0], plan)
            for layer in range(plan.n_layers - 1):
                start = layer * n_groups * step
                for group in range(plan.first_local):
                    at = start + group * step
                    _rotate_pass(states, at + step, states, at, tangents, plan, layer, group)
                for within in range(0, size, block):
                    for group in range(plan.first_local, n_groups):
                        at = start + group * step + within
                        _rotate_pass(states, at + step, states, at, tangents, plan, layer, group)
                start += n_groups * step
                _scale(states[start : start + size], scales[layer + 1])
            _load_cotangent(cotangent, grad_outputs, signs, plan, tile)
            _seed(adjoint, other, factors, cotangent, states[n_passes * step :], plan)
            for layer in range(plan.n_layers - 2, -1, -1):
                start = (layer * n_groups + 1) * step
                for within in range(0, size, block):
                    for group in range(n_groups - 1, plan.first_local - 1, -1):
                        _unrotate_pass(
                            adjoint, within, adjoint, within, states, start + group * step + within,
                            tangents, by_later_angle, plan, layer, group,
                        )  # fmt: skip
                        if group == n_groups - 1:
                            _scale(adjoint[within : within + block], scales[layer + 1])
                for group in range(plan.first_local - 1, -1, -1):
                    _unrotate_pass(
                        other, 0, adjoint, 0, states, start + group * step, tangents,
                        by_later_angle, plan, layer, group,
                    )  # fmt: skip
                    adjoint, other = other, adjoint
            by_input[:] = 0
            _contract(adjoint, prefixes, trig, by_input, cotangent, plan)
            _store_by_input(grad_inputs, by_angle, by_input, adjoint, trig, scales[0], plan, tile)
        _add_by_angle(by_chunk[chunk], by_angle, angle_signs, plan)
        if next_number(counters, 1) == n_chunks - 1:  # all others are done
            sum_chunks(grad_weights, by_chunk)
        chunk = next_number(counters, 0)


@njit(inline="always")
def _count_tiles(inputs, plan):
    return -(-len(inputs) // plan.n_lanes) if plan.n_lane_qubits == 0 else len(inputs)


@njit(inline="always")
def _load_trig(trig, inputs, first_cos, first_sin, plan, tile):
    """Cosine and sine of half of each qubit's first two angles, in all lanes."""
    # The last tile is filled up with copies of the last sample.
    start, last = tile * plan.n_lanes, len(inputs) - 1
    if plan.n_lane_qubits > 0:
        start = last = tile
    for qubit in range(plan.n_qubits):
        c, s = first_cos[qubit], first_sin[qubit]
        load_column(trig, 2 * qubit, inputs, start, last, qubit)
        if not turn(trig, 2 * qubit, c, s):
            for lane in range(plan.n_lanes):
                half = 0.5 * inputs[min(start + lane, last), qubit]
                if not abs(half) <= LARGEST_ANGLE:
                    at = 2 * qubit * plan.n_lanes + lane
                    trig[at] = c * math.cos(half) - s * math.sin(half)
                    trig[at + plan.n_lanes] = c * math.sin(half) + s * math.cos(half)


@njit(inline="always")
def _encode(state, prefixes, trig, scale, plan):
    """The product state, scaled; and the product states of the qubits before each group, one after
    the other."""
    _first_row(prefixes, trig, scale, plan)
    at, last = 0, len(plan.group_size) - 1
    for group in range(last + 1):
        k, qubit = plan.group_size[group], plan.group_start[group]
        n_rows = 1 << qubit
        there = state if group == last else prefixes[(at + n_rows) * plan.n_lanes :]
        for row in range(n_rows):
            expand(k, there, row << k, prefixes, at + row, trig, qubit)
        at += n_rows


@njit(inline="always")
def _scale(state, factor):
    if factor != 1:
        for i in range(len(state)):
            state[i] *= factor


@njit(inline="always")
def _first_row(state, trig, scale, plan):
    """The scale, times the product state of the lanes' own qubits."""
    for lane in range(plan.n_lanes):
        value = scale
        for bit in range(plan.n_lane_qubits):
            value *= trig[_row_of(plan, bit, lane >> bit & 1) * plan.n_lanes]
        state[lane] = value


@njit(inline="always")
def _row_of(plan, bit, one):
    """Row of ``trig`` with the cosine, or the sine, of the qubit that is a bit of the lane."""
    return 2 * (plan.n_qubits - 1 - bit) + one


@njit(inline="always")
def _rotate_pass(dst, d, src, s, tangents, plan, layer, group):
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    rotate(
        plan.group_kind[group], dst, d, src, s, plan.bases, plan.sources, plan.group_offset[group],
        plan.group_count[group], plan.group_stride[group], plan.images, group * MAX_GROUP, tangents,
        t, lanes_t,
    )  # fmt: skip


@njit(inline="always")
def _unrotate_pass(dst, d, adjoint, a, states, s, tangents, gradients, plan, layer, group):
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    unrotate(
        plan.group_kind[group], dst, d, adjoint, a, states, s, plan.bases, plan.sources,
        plan.group_offset[group], plan.group_count[group], plan.group_stride[group], plan.images,
        group * MAX_GROUP, tangents, t, lanes_t, gradients,
    )  # fmt: skip


@njit(inline="always")
def _sum_rows(rows, plan):
    """Of sums over a state's rows, after those of each qubit: signed by all qubits but the first;
    by none; and one for what is not asked for."""
    r, width = plan.n_qubits - plan.n_lane_qubits, plan.n_lanes
    return (
        rows[r * width : (r + 1) * width],
        rows[(r + 1) * width : (r + 2) * width],
        rows[(r + 2) * width : (r + 3) * width],
    )


@njit(inline="always")
def _read(sums, totals, signed, state, plan):
    """The squared amplitudes, summed over the rows by parity, lane by lane."""
    but_first, total, unwanted = _sum_rows(sums, plan)
    sums[:] = 0
    last = len(plan.group_size) - 1
    for group in range(last, -1, -1):
        kind, k, qubit = plan.parity_kind[group], plan.group_size[group], plan.group_start[group]
        half = (1 << qubit) >> 1 if group == last else 0
        rows = state if group == last else totals
        fold(kind, totals, signed, 0, rows, 0, half, group == last)
        fold(kind, totals, signed, 1 << k, rows, half, 1 << qubit, group == last)
        rest = but_first if group == last else unwanted
        add_parities(kind, sums, qubit, rest, signed, 0, 1 << k)
    for lane in range(plan.n_lanes):
        total[lane] = totals[lane]


@njit(inline="always")
def _store_outputs(outputs, sums, signs, plan, tile):
    width = plan.n_lanes
    for i in range(plan.n_qubits):
        row = plan.parity_row[i]
        if plan.n_lane_qubits == 0:
            _store_samples(outputs, tile, i, sums, row, signs[i], plan)
        else:
            value = 0.0
            for lane in range(width):
                value += plan.lane_signs[i, lane] * sums[row * width + lane]
            outputs[tile, i] = signs[i] * value


@njit(inline="always")
def _store_samples(array, tile, column, rows, row, factor, plan):
    """A row's lanes, as far as there are samples for them."""
    first = tile * plan.n_lanes
    if first + plan.n_lanes <= len(array):
        store_column(array, first, column, rows, row, factor)
    else:
        for lane in range(len(array) - first):
            array[first + lane, column] = factor * rows[row * plan.n_lanes + lane]


@njit(inline="always")
def _load_cotangent(cotangent, grad_outputs, signs, plan, tile):
    """Twice the gradient by each sum over the rows."""
    width, two = plan.n_lanes, signs.dtype.type(2)
    first, last = tile * width, len(grad_outputs) - 1
    _, _, loaded = _sum_rows(cotangent, plan)
    cotangent[:] = 0
    for i in range(plan.n_qubits):
        at, factor = plan.parity_row[i] * width, two * signs[i]
        if plan.n_lane_qubits > 0:
            for lane in range(width):
                cotangent[at + lane] += factor * plan.lane_signs[i, lane] * grad_outputs[tile, i]
        else:
            load_column(loaded, 0, grad_outputs, first, last, i)
            if last < first + width - 1:
                loaded[last + 1 - first :] = 0
            for lane in range(width):
                cotangent[at + lane] += factor * loaded[lane]
    loaded[:] = 0


@njit(inline="always")
def _seed(adjoint, earlier, factors, cotangent, state, plan):
    """Gradient by the last state: the state times the signed sum of the cotangents."""
    but_first, total, nothing = _sum_rows(cotangent, plan)
    for lane in range(plan.n_lanes):
        earlier[lane] = total[lane]
    last = len(plan.group_size) - 1
    for group in range(last + 1):
        kind, k, qubit = plan.parity_kind[group], plan.group_size[group], plan.group_start[group]
        half = (1 << qubit) >> 1 if group == last else 0
        rest = but_first if group == last else nothing
        spread_parities(kind, factors, 0, 1 << k, cotangent, qubit, rest)
        there = adjoint if group == last else earlier
        unfold(kind, there, earlier, factors, 1 << k, half, 1 << qubit, state, group == last)
        unfold(kind, there, earlier, factors, 0, 0, half, state, group == last)


@njit(inline="always")
def _contract(adjoint, prefixes, trig, by_input, sums, plan):
    """The adjoint against the product state, group by group from the last; row 0 keeps the rest.

    sums: room for those of a run (see ``lanes``).
    """
    at = 0
    for group in range(len(plan.group_size)):
        at += 1 << plan.group_start[group]
    for group in range(len(plan.group_size) - 1, -1, -1):
        k, qubit = plan.group_size[group], plan.group_start[group]
        at -= 1 << qubit
        first, stop = qubit * plan.n_lanes, (qubit + k) * plan.n_lanes
        for start in range(0, 1 << qubit, RUN):
            sums[first:stop] = 0
            for row in range(start, min(start + RUN, 1 << qubit)):
                contract(k, adjoint, row, adjoint, row << k, trig, qubit, prefixes, at + row, sums)
            for i in range(first, stop):
                by_input[i] += sums[i]


@njit(inline="always")
def _store_by_input(grad_inputs, by_angle, by_input, contracted, trig, scale, plan, tile):
    """Also adds what the first rotations' angles, the inputs being added to them, get of it."""
    width, n_row_qubits = plan.n_lanes, plan.n_qubits - plan.n_lane_qubits
    half = scale * 0 + 0.5
    for i in range(n_row_qubits * width):
        by_angle[i] += by_input[i]
    if plan.n_lane_qubits == 0:
        for qubit in range(n_row_qubits):
            _store_samples(grad_inputs, tile, qubit, by_input, qubit, half, plan)
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
                one = lane >> bit & 1
                if bit != turned:
                    value *= trig[_row_of(plan, bit, one) * width]
                elif one:
                    value *= trig[_row_of(plan, bit, 0) * width]
                else:
                    value *= -trig[_row_of(plan, bit, 1) * width]
            total += value
        qubit = plan.n_qubits - 1 - turned
        grad_inputs[tile, qubit] = 0.5 * total
        by_angle[qubit * width] += total


@njit(inline="always")
def _add_by_angle(by_weight, by_angle, angle_signs, plan):
    """The gradient by the angles, from which that by the weights differs in sign."""
    n, width, n_row_qubits = plan.n_qubits, plan.n_lanes, plan.n_qubits - plan.n_lane_qubits
    for row in range(plan.n_layers * n):
        total, layer, qubit = 0.0, row // n, row % n
        for lane in range(width):
            value = 0.5 * by_angle[row * width + lane]
            within = layer > 0 and qubit >= n_row_qubits and lane >> (n - 1 - qubit) & 1
            total += -value if within else value
        by_weight[row] = total if layer == 0 else angle_signs[layer - 1, qubit] * total
