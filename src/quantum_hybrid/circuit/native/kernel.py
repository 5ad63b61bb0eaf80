"""The native engine's loops over rows (see ``compiled.vectors``), forward and backward.

A *tile* is one sample for each lane (``Passes.n_lane_qubits`` = 0), or a single sample whose last
qubits are the bits of the lane number. Its state has ``2**(n - n_lane_qubits)`` rows. The first
rotations are part of the encoded product state, and the last entangler is part of the parities that
are read, so L - 1 layers of entangler and rotations remain. A layer is a few *passes*, one for each
group of neighbouring qubits. Its first pass applies the entangler too, by the addresses that it
reads. From the group ``Passes.first_local`` on, passes stay within blocks of a state and run block
by block.

Backward is the adjoint method (Jones & Gacon 2020, arXiv:2009.02823) with one difference: the
state after each pass is recomputed and kept. Only the adjoint is rotated back, and all gradients of
a pass come from rows that are in registers.

Threads may run `forward` or `backward` on the same arrays at the same time: each takes the next
chunk of tiles by an atomic counter. Chunks do not depend on the number of threads, so neither does
any digit of the result.

Numba compiles this at the first call for a dtype, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

import math

from numba import njit

from quantum_hybrid.circuit.native.angles import sum_chunks
from quantum_hybrid.circuit.native.columns import load_column, store_column
from quantum_hybrid.circuit.native.groups import RUN
from quantum_hybrid.circuit.native.parities import add_parities, fold, spread_parities, unfold
from quantum_hybrid.circuit.native.products import contract, expand
from quantum_hybrid.circuit.native.rotations import rotate, unrotate
from quantum_hybrid.circuit.native.trigonometry import LARGEST_ANGLE, turn
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.threads import next_number
from quantum_hybrid.compiled.vectors import MAX_GROUP


@compiled
def forward(outputs, inputs, rotations, passes, chunk_tiles, counters, work):
    """Outputs ``(samples, n)`` in [-1, 1] of inputs ``(samples, n)`` in radians.

    rotations: from `angles.rotations_of`. chunk_tiles: tiles that a thread takes at a time.
    counters: two zeros before the first thread starts. work: memory of the thread, `Work.forward`
    scalars, aligned to 64 bytes; its contents do not matter.
    """
    n, width = passes.n_qubits, passes.n_lanes
    size, block = (1 << (n - passes.n_lane_qubits)) * width, passes.block_rows * width
    # The skew keeps equal rows of the two states out of the same set of the first-level cache.
    state, at = work[:size], size + 2 * passes.skew
    other, at = work[at : at + size], at + size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    sums, at = work[at : at + (n + 3) * width], at + (n + 3) * width
    signed = work[at : at + (2 << MAX_GROUP) * width]
    first_cos, first_sin, tangents, scales, signs, _ = rotations
    n_tiles = _count_tiles(inputs, passes)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_trig(trig, inputs, first_cos, first_sin, passes, tile)
            _encode(state, other, trig, scales[0], passes)
            for layer in range(passes.n_layers - 1):
                # These read rows of other blocks (the entangler permutes rows across the whole
                # state), so they cannot work in place.
                for group in range(passes.first_local):
                    _rotate_pass(other, 0, state, 0, tangents, passes, layer, group)
                    state, other = other, state
                for at in range(0, size, block):
                    for group in range(passes.first_local, len(passes.group_size)):
                        _rotate_pass(state, at, state, at, tangents, passes, layer, group)
                _scale(state, scales[layer + 1])
            _read(sums, other, signed, state, passes)
            _store_outputs(outputs, sums, signs, passes, tile)
        chunk = next_number(counters, 0)


@compiled
def backward(
    grad_inputs, grad_weights, by_chunk, grad_outputs, inputs, rotations, passes, chunk_tiles,
    counters, work,
):  # fmt: skip
    """Gradients by inputs ``(samples, n)`` and weights ``(L, n)``; other arguments as in `forward`.

    grad_outputs: (samples, n). by_chunk: (chunks, L n), double precision, written: each chunk's
    part of the gradient by the weights. work: `Work.backward` scalars.
    """
    n, width = passes.n_qubits, passes.n_lanes
    size, block = (1 << (n - passes.n_lane_qubits)) * width, passes.block_rows * width
    n_groups = len(passes.group_size)
    n_passes = (passes.n_layers - 1) * n_groups
    step = size + 2 * passes.skew  # from one kept state to the next
    states, at = work[: n_passes * step + size], (n_passes + 1) * step + passes.skew
    adjoint, at = work[at : at + size], at + size + 2 * passes.skew
    other, at = work[at : at + size], at + size
    prefixes, at = work[at : at + size], at + size
    trig, at = work[at : at + 2 * n * width], at + 2 * n * width
    cotangent, at = work[at : at + (n + 3) * width], at + (n + 3) * width
    factors, at = work[at : at + (2 << MAX_GROUP) * width], at + (2 << MAX_GROUP) * width
    by_input, at = work[at : at + n * width], at + n * width
    by_angle = work[at : at + passes.n_layers * n * width]
    by_later_angle = by_angle[n * width :]
    first_cos, first_sin, tangents, scales, signs, angle_signs = rotations
    n_tiles, n_chunks = _count_tiles(inputs, passes), len(by_chunk)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        by_angle[:] = 0
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_trig(trig, inputs, first_cos, first_sin, passes, tile)
            _encode(states, prefixes, trig, scales[0], passes)
            for layer in range(passes.n_layers - 1):
                start = layer * n_groups * step
                for group in range(passes.first_local):
                    at = start + group * step
                    _rotate_pass(states, at + step, states, at, tangents, passes, layer, group)
                for within in range(0, size, block):
                    for group in range(passes.first_local, n_groups):
                        at = start + group * step + within
                        _rotate_pass(states, at + step, states, at, tangents, passes, layer, group)
                start += n_groups * step
                _scale(states[start : start + size], scales[layer + 1])
            _load_cotangent(cotangent, grad_outputs, signs, passes, tile)
            _seed(adjoint, other, factors, cotangent, states[n_passes * step :], passes)
            for layer in range(passes.n_layers - 2, -1, -1):
                start = (layer * n_groups + 1) * step
                for within in range(0, size, block):
                    for group in range(n_groups - 1, passes.first_local - 1, -1):
                        _unrotate_pass(
                            adjoint, within, adjoint, within, states, start + group * step + within,
                            tangents, by_later_angle, passes, layer, group,
                        )  # fmt: skip
                        if group == n_groups - 1:
                            # Only now: the kept state has the factor already, so the gradients
                            # of this pass are complete without it.
                            _scale(adjoint[within : within + block], scales[layer + 1])
                for group in range(passes.first_local - 1, -1, -1):
                    _unrotate_pass(
                        other, 0, adjoint, 0, states, start + group * step, tangents,
                        by_later_angle, passes, layer, group,
                    )  # fmt: skip
                    adjoint, other = other, adjoint
            by_input[:] = 0
            _contract(adjoint, prefixes, trig, by_input, cotangent, passes)
            _store_by_input(grad_inputs, by_angle, by_input, adjoint, trig, scales[0], passes, tile)
        _add_by_angle(by_chunk[chunk], by_angle, angle_signs, passes)
        # The thread that finishes last adds up the chunks in their order: the sum is then the same
        # whichever thread computed which chunk.
        if next_number(counters, 1) == n_chunks - 1:
            sum_chunks(grad_weights, by_chunk)
        chunk = next_number(counters, 0)


@njit(inline="always")
def _count_tiles(inputs, passes):
    return -(-len(inputs) // passes.n_lanes) if passes.n_lane_qubits == 0 else len(inputs)


@njit(inline="always")
def _load_trig(trig, inputs, first_cos, first_sin, passes, tile):
    """Cosine and sine of half the sum of each qubit's input and first weight, in all lanes."""
    # The last tile is padded with copies of the last sample.
    start, last = tile * passes.n_lanes, len(inputs) - 1
    if passes.n_lane_qubits > 0:
        start = last = tile
    for qubit in range(passes.n_qubits):
        c, s = first_cos[qubit], first_sin[qubit]
        load_column(trig, 2 * qubit, inputs, start, last, qubit)
        # Some lane is beyond the range of the vector code, or not finite: it is computed alone.
        if not turn(trig, 2 * qubit, c, s):
            for lane in range(passes.n_lanes):
                half = 0.5 * inputs[min(start + lane, last), qubit]
                if not abs(half) <= LARGEST_ANGLE:
                    at = 2 * qubit * passes.n_lanes + lane
                    trig[at] = c * math.cos(half) - s * math.sin(half)
                    trig[at + passes.n_lanes] = c * math.sin(half) + s * math.cos(half)


@njit(inline="always")
def _encode(state, prefixes, trig, scale, passes):
    """The scaled product state; in ``prefixes``, the product state of the qubits before each group.

    The latter lie one after the other, the shortest first: `_contract` reads them.
    """
    _first_row(prefixes, trig, scale, passes)
    at, last = 0, len(passes.group_size) - 1
    for group in range(last + 1):
        k, qubit = passes.group_size[group], passes.group_start[group]
        n_rows = 1 << qubit
        there = state if group == last else prefixes[(at + n_rows) * passes.n_lanes :]
        for row in range(n_rows):
            expand(k, there, row << k, prefixes, at + row, trig, qubit)
        at += n_rows


@njit(inline="always")
def _scale(state, factor):
    if factor != 1:
        for i in range(len(state)):
            state[i] *= factor


@njit(inline="always")
def _first_row(state, trig, scale, passes):
    """Row 0: the scale, times the product state of the qubits that are bits of the lane number."""
    for lane in range(passes.n_lanes):
        value = scale
        for bit in range(passes.n_lane_qubits):
            value *= trig[_row_of(passes, bit, lane >> bit & 1) * passes.n_lanes]
        state[lane] = value


@njit(inline="always")
def _row_of(passes, bit, one):
    """Row of ``trig`` with the cosine (``one`` = 0) or sine (1) of the qubit at a lane's bit."""
    return 2 * (passes.n_qubits - 1 - bit) + one


@njit(inline="always")
def _rotate_pass(dst, d, src, s, tangents, passes, layer, group):
    t = layer * passes.n_qubits + passes.group_start[group]
    lanes_t = (layer + 1) * passes.n_qubits - passes.n_lane_qubits
    rotate(
        passes.group_kind[group], dst, d, src, s, passes.bases, passes.sources,
        passes.group_offset[group], passes.group_count[group], passes.group_stride[group],
        passes.images, group * MAX_GROUP, tangents, t, lanes_t,
    )  # fmt: skip


@njit(inline="always")
def _unrotate_pass(dst, d, adjoint, a, states, s, tangents, gradients, passes, layer, group):
    t = layer * passes.n_qubits + passes.group_start[group]
    lanes_t = (layer + 1) * passes.n_qubits - passes.n_lane_qubits
    unrotate(
        passes.group_kind[group], dst, d, adjoint, a, states, s, passes.bases, passes.sources,
        passes.group_offset[group], passes.group_count[group], passes.group_stride[group],
        passes.images, group * MAX_GROUP, tangents, t, lanes_t, gradients,
    )  # fmt: skip


@njit(inline="always")
def _sum_rows(rows, passes):
    """The last three rows of ``rows``, which holds sums over a state's rows, one for each parity.

    They are the sum signed by all row qubits but the first, the plain sum, and one that is not
    used. Before them comes one sum for each row qubit.
    """
    r, width = passes.n_qubits - passes.n_lane_qubits, passes.n_lanes
    return (
        rows[r * width : (r + 1) * width],
        rows[(r + 1) * width : (r + 2) * width],
        rows[(r + 2) * width : (r + 3) * width],
    )


@njit(inline="always")
def _read(sums, totals, signed, state, passes):
    """Sums of the squared amplitudes over the rows, one for each parity, lane by lane."""
    but_first, total, unwanted = _sum_rows(sums, passes)
    sums[:] = 0
    last = len(passes.group_size) - 1
    # The last group's rows are amplitudes; folding them leaves the rows of the group before. In the
    # last group the halves of the state are folded separately: their difference is the sum signed
    # by all qubits but the first.
    for group in range(last, -1, -1):
        kind, k, qubit = (
            passes.parity_kind[group],
            passes.group_size[group],
            passes.group_start[group],
        )
        half = (1 << qubit) >> 1 if group == last else 0
        rows = state if group == last else totals
        fold(kind, totals, signed, 0, rows, 0, half, group == last)
        fold(kind, totals, signed, 1 << k, rows, half, 1 << qubit, group == last)
        rest = but_first if group == last else unwanted
        add_parities(kind, sums, qubit, rest, signed, 0, 1 << k)
    for lane in range(passes.n_lanes):
        total[lane] = totals[lane]


@njit(inline="always")
def _store_outputs(outputs, sums, signs, passes, tile):
    width = passes.n_lanes
    for i in range(passes.n_qubits):
        row = passes.parity_row[i]
        if passes.n_lane_qubits == 0:
            _store_samples(outputs, tile, i, sums, row, signs[i], passes)
        else:
            value = 0.0
            for lane in range(width):
                value += passes.lane_signs[i, lane] * sums[row * width + lane]
            outputs[tile, i] = signs[i] * value


@njit(inline="always")
def _store_samples(array, tile, column, rows, row, factor, passes):
    """Write a row's lanes to a column of ``(samples, n)``, without the padding of the last tile."""
    first = tile * passes.n_lanes
    if first + passes.n_lanes <= len(array):
        store_column(array, first, column, rows, row, factor)
    else:
        for lane in range(len(array) - first):
            array[first + lane, column] = factor * rows[row * passes.n_lanes + lane]


@njit(inline="always")
def _load_cotangent(cotangent, grad_outputs, signs, passes, tile):
    """Twice the gradient by each sum over the rows, since an amplitude's square has slope 2 a."""
    width, two = passes.n_lanes, signs.dtype.type(2)
    first, last = tile * width, len(grad_outputs) - 1
    _, _, loaded = _sum_rows(cotangent, passes)
    cotangent[:] = 0
    for i in range(passes.n_qubits):
        at, factor = passes.parity_row[i] * width, two * signs[i]
        if passes.n_lane_qubits > 0:
            for lane in range(width):
                cotangent[at + lane] += factor * passes.lane_signs[i, lane] * grad_outputs[tile, i]
        else:
            load_column(loaded, 0, grad_outputs, first, last, i)
            # A padded lane must not contribute to the gradient by the weights.
            if last < first + width - 1:
                loaded[last + 1 - first :] = 0
            for lane in range(width):
                cotangent[at + lane] += factor * loaded[lane]
    loaded[:] = 0


@njit(inline="always")
def _seed(adjoint, earlier, factors, cotangent, state, passes):
    """Gradient by the last state: each amplitude times the signed sum of the cotangents."""
    but_first, total, nothing = _sum_rows(cotangent, passes)
    for lane in range(passes.n_lanes):
        earlier[lane] = total[lane]
    last = len(passes.group_size) - 1
    for group in range(last + 1):
        kind, k, qubit = (
            passes.parity_kind[group],
            passes.group_size[group],
            passes.group_start[group],
        )
        half = (1 << qubit) >> 1 if group == last else 0
        rest = but_first if group == last else nothing
        spread_parities(kind, factors, 0, 1 << k, cotangent, qubit, rest)
        there = adjoint if group == last else earlier
        unfold(kind, there, earlier, factors, 1 << k, half, 1 << qubit, state, group == last)
        unfold(kind, there, earlier, factors, 0, 0, half, state, group == last)


@njit(inline="always")
def _contract(adjoint, prefixes, trig, by_input, sums, passes):
    """Contract the adjoint with the product state, group by group from the last, into row 0.

    by_input: gets added the derivatives by half of each angle. sums: memory for the sums of one
    `groups.RUN`.
    """
    at = 0
    for group in range(len(passes.group_size)):
        at += 1 << passes.group_start[group]
    for group in range(len(passes.group_size) - 1, -1, -1):
        k, qubit = passes.group_size[group], passes.group_start[group]
        at -= 1 << qubit
        first, stop = qubit * passes.n_lanes, (qubit + k) * passes.n_lanes
        for start in range(0, 1 << qubit, RUN):
            sums[first:stop] = 0
            for row in range(start, min(start + RUN, 1 << qubit)):
                contract(k, adjoint, row, adjoint, row << k, trig, qubit, prefixes, at + row, sums)
            for i in range(first, stop):
                by_input[i] += sums[i]


@njit(inline="always")
def _store_by_input(grad_inputs, by_angle, by_input, contracted, trig, scale, passes, tile):
    """Store the gradient by the inputs, and add it to that by the first weights.

    Input and first weight of a qubit are added, so their gradients are equal for each sample.
    """
    width, n_row_qubits = passes.n_lanes, passes.n_qubits - passes.n_lane_qubits
    half = scale * 0 + 0.5  # 1/2 in the dtype of the state: a literal would be a float64
    for i in range(n_row_qubits * width):
        by_angle[i] += by_input[i]
    if passes.n_lane_qubits == 0:
        for qubit in range(n_row_qubits):
            _store_samples(grad_inputs, tile, qubit, by_input, qubit, half, passes)
        return
    for qubit in range(n_row_qubits):
        total = 0.0
        for lane in range(width):
            total += by_input[qubit * width + lane]
        grad_inputs[tile, qubit] = 0.5 * total
    # What is left of the adjoint is one row over the qubits of the lanes. The derivative by one of
    # them replaces its (cos, sin) by (-sin, cos).
    for turned in range(passes.n_lane_qubits):
        total = 0.0
        for lane in range(width):
            value = scale * contracted[lane]
            for bit in range(passes.n_lane_qubits):
                one = lane >> bit & 1
                if bit != turned:
                    value *= trig[_row_of(passes, bit, one) * width]
                elif one:
                    value *= trig[_row_of(passes, bit, 0) * width]
                else:
                    value *= -trig[_row_of(passes, bit, 1) * width]
            total += value
        qubit = passes.n_qubits - 1 - turned
        grad_inputs[tile, qubit] = 0.5 * total
        by_angle[qubit * width] += total


@njit(inline="always")
def _add_by_angle(by_weight, by_angle, angle_signs, passes):
    """Write the gradient by the weights: that by the reduced angles, summed over the lanes, signed.

    Where lanes are qubits, the derivative by a lane's qubit is minus in lanes whose bit is 1.
    """
    n, width, n_row_qubits = passes.n_qubits, passes.n_lanes, passes.n_qubits - passes.n_lane_qubits
    for row in range(passes.n_layers * n):
        total, layer, qubit = 0.0, row // n, row % n
        for lane in range(width):
            value = 0.5 * by_angle[row * width + lane]
            within = layer > 0 and qubit >= n_row_qubits and lane >> (n - 1 - qubit) & 1
            total += -value if within else value
        by_weight[row] = total if layer == 0 else angle_signs[layer - 1, qubit] * total
