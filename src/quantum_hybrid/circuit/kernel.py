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

from numba import njit

from quantum_hybrid.circuit.lanes import (
    MAX_GROUP,
    add_scaled,
    contract,
    expand,
    odd,
    rotate,
    squares,
    times_parities,
    unrotate,
)


@njit(nogil=True, cache=True)
def forward(outputs, cos, sin, tangents, scales, signs, lane_signs, plan, start, stop, work):
    """Outputs of tiles ``start`` to ``stop``.

    cos, sin: (samples, n), of half the angles of encoding and first rotations together.
    tangents: (L - 1) * n, of half the other angles. scales: (L,), what makes up for their cosines:
    the first for the encoded state, the others for the states of the later layers.
    signs: (n,), of each output. lane_signs: (n, lanes), of each output's parity within a row.
    """
    n, width = plan.n_qubits, plan.n_lanes
    size = (1 << (n - plan.n_lane_qubits)) * width
    state, other, at = work[:size], work[size : 2 * size], 2 * size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    folded, at = work[at : at + (MAX_GROUP + 1) * width], at + (MAX_GROUP + 1) * width
    sums = work[at : at + n * width]
    for tile in range(start, stop):
        _encode(state, other, trig, cos, sin, scales[0], plan, tile)
        for layer in range(plan.n_layers - 1):
            for group in range(len(plan.group_size)):
                _rotate_pass(other, state, tangents, plan, layer, group)
                state, other = other, state
            _scale(state, scales[layer + 1])
        _read(sums, state, folded, signs, plan)
        _store_outputs(outputs, sums, lane_signs, plan, tile)


@njit(nogil=True, cache=True)
def backward(
    grad_inputs, grad_angles, grad_outputs, cos, sin, tangents, scales, signs, lane_signs, plan,
    start, stop, work,
):  # fmt: skip
    """Gradients of tiles ``start`` to ``stop``; arguments as in `forward`.

    grad_inputs: (samples, n), written. grad_angles: (L - 1) * n, what is added is the gradient by
    the angles, in double precision.
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
    factors, at = work[at : at + (MAX_GROUP + 1) * width], at + (MAX_GROUP + 1) * width
    cotangent, at = work[at : at + n * width], at + n * width
    by_input, at = work[at : at + n * width], at + n * width
    by_angle = work[at : at + plan.n_layers * n * width]
    by_angle[:] = 0
    for tile in range(start, stop):
        _load_cotangent(cotangent, grad_outputs, signs, lane_signs, plan, tile)
        _encode(states, prefixes, trig, cos, sin, scales[0], plan, tile)
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
        _contract(adjoint, prefixes, trig, by_input, plan)
        _store_by_input(grad_inputs, by_input, adjoint, cos, sin, scales[0], plan, tile)
    _add_by_angle(grad_angles, by_angle, plan)


@njit(inline="always")
def _encode(state, prefixes, trig, cos, sin, scale, plan, tile):
    """The product state, scaled; its factors, for every lane; and the product states of the qubits
    before each group, one after the other."""
    _load_trig(trig, cos, sin, plan, tile)
    _first_row(prefixes, cos, sin, scale, plan, tile)
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
    kind, shift = plan.group_kind[group], plan.group_shift[group]
    at, n_outer = plan.group_offset[group], _count_outer(plan, group)
    bases = plan.bases[at : at + n_outer]
    sources = plan.sources[at : at + n_outer] if group == 0 else bases
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    crossing = plan.crossing if group == 0 else 0
    for o in range(n_outer):
        if crossing > 0:
            kind = crossing + (bases[o] & 1)
        rotate(
            kind, dst, bases[o], shift, src, sources[o], plan.images, group * MAX_GROUP, tangents,
            t, lanes_t,
        )  # fmt: skip


@njit(inline="always")
def _unrotate_pass(dst, adjoint, state, tangents, gradients, plan, layer, group):
    kind, shift = plan.group_kind[group], plan.group_shift[group]
    at, n_outer = plan.group_offset[group], _count_outer(plan, group)
    bases = plan.bases[at : at + n_outer]
    sources = plan.sources[at : at + n_outer] if group == 0 else bases
    t = layer * plan.n_qubits + plan.group_start[group]
    lanes_t = (layer + 1) * plan.n_qubits - plan.n_lane_qubits
    crossing = plan.crossing if group == 0 else 0
    for o in range(n_outer):
        if crossing > 0:
            kind = crossing + (bases[o] & 1)
        unrotate(
            kind, dst, sources[o], plan.images, group * MAX_GROUP, adjoint, state, bases[o], shift,
            tangents, t, lanes_t, gradients,
        )  # fmt: skip


@njit(inline="always")
def _count_outer(plan, group):
    return 1 << (plan.n_qubits - plan.n_lane_qubits - plan.group_size[group])


@njit(inline="always")
def _read(sums, state, folded, signs, plan):
    """Each output's parity, summed over the rows, lane by lane."""
    k = plan.group_size[-1]
    sums[:] = 0
    for block in range(_count_outer(plan, len(plan.group_size) - 1)):
        squares(plan.read_kind, folded, state, block << k)
        for i in range(plan.n_qubits):
            sign = -signs[i] if odd(block & plan.parity_high[i]) else signs[i]
            add_scaled(sums, i, folded, plan.parity_low[i], sign)


@njit(inline="always")
def _store_outputs(outputs, sums, lane_signs, plan, tile):
    width = plan.n_lanes
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
    for block in range(_count_outer(plan, len(plan.group_size) - 1)):
        factors[:] = 0
        for i in range(plan.n_qubits):
            sign = -one if odd(block & plan.parity_high[i]) else one
            add_scaled(factors, plan.parity_low[i], cotangent, i, sign)
        times_parities(plan.read_kind, adjoint, state, block << k, factors)


@njit(inline="always")
def _contract(adjoint, prefixes, trig, by_input, plan):
    """The adjoint against the product state, group by group from the last; row 0 keeps the rest."""
    at = 0
    for group in range(len(plan.group_size)):
        at += 1 << plan.group_start[group]
    for group in range(len(plan.group_size) - 1, -1, -1):
        k, qubit = plan.group_size[group], plan.group_start[group]
        at -= 1 << qubit
        for row in range(1 << qubit):
            contract(k, adjoint, row, adjoint, row << k, trig, qubit, prefixes, at + row, by_input)


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
def _add_by_angle(grad_angles, by_angle, plan):
    width, n_row_qubits = plan.n_lanes, plan.n_qubits - plan.n_lane_qubits
    for row in range(len(grad_angles)):
        qubit = row % plan.n_qubits
        for lane in range(width):
            value = 0.5 * by_angle[row * width + lane]
            within = qubit >= n_row_qubits and lane >> (plan.n_qubits - 1 - qubit) & 1
            grad_angles[row] += -value if within else value
