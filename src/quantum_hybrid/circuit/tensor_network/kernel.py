"""The `tensor_network` engine's loops over qubits: one tile of samples forward, one backward.

A tile is one sample a lane, so that a *row* is 32 float32 or 16 float64 of one quantity, and an
array is rows of quantities, one after the other. ``Plan`` holds what depends on the ansatz alone;
docs/circuit.md derives what is computed. For each sector that counts

- ``left`` is the state after each qubit, Z having been measured on all up to it,
- ``right`` the same from the other end, the identity having been measured,
- output ``i`` is their inner product after qubit ``i``;

and in a ring two outputs do not leave the last qubit out, so that Z is measured up to the end.

Numba compiles this at the first call for a dtype, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from numba import njit

from quantum_hybrid.circuit.tensor_network.plan import Plan
from quantum_hybrid.circuit.tensor_network.rows import add_product, sum_products
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.threads import next_number


def n_scalars(plan: Plan) -> int:
    """Length of ``work`` for `forward` and `backward`."""
    n_factors = 2 * plan.n_layers
    at_qubit = 2 * plan.n_coefficients + n_factors + plan.n_class + plan.n_block + 2
    elsewhere = 2 * plan.n_class + n_factors + 1
    return (plan.n_qubits * at_qubit + elsewhere) * plan.n_lanes


@compiled
def forward(
    outputs, first_cos, first_sin, later_cos, later_sin, plan, chunk_tiles, counters, work
):  # fmt: skip
    """Outputs ``(samples, n)``, as many threads as there are taking the next tiles in turn.

    first_cos, first_sin: (samples, n), of the angles of layer 0. later_cos, later_sin:
    (L - 1, samples, n) of the others, or (L - 1, 1, n) where all samples share them. counters: a
    zero at first, the threads' own from then on.
    """
    n, width = plan.n_qubits, plan.n_lanes
    coefficients, _, factors, left, right, out, _, _, _, ones = _split(work, plan)
    ones[:] = 1
    n_tiles = -(-len(outputs) // plan.n_lanes)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_factors(factors, first_cos, first_sin, later_cos, later_sin, plan, tile)
            _make_coefficients(coefficients, factors, plan)
            out[:] = 0
            for sector in plan.prefix_sectors:
                _sweep_left(left, coefficients, ones, plan, sector)
                _sweep_right(right, coefficients, plan, sector)
                _read_prefixes(out, left, right, plan, sector)
            for sector in plan.closing_sectors:
                _sweep_closing(left, coefficients, plan, sector)
                _read_closing(out, left, coefficients, plan, sector)
            for lane in range(min(width, len(outputs) - tile * width)):
                for i in range(n):
                    outputs[tile * width + lane, i] = out[i * width + lane]
        chunk = next_number(counters, 0)


@compiled
def backward(
    grad_first, grad_later, grad_outputs, first_cos, first_sin, later_cos, later_sin, plan,
    chunk_tiles, counters, work,
):  # fmt: skip
    """Gradients by the angles; arguments as in `forward`.

    grad_first: (samples, n). grad_later: (L - 1, samples, n), or where all samples share these
    angles (L - 1, tiles, n), summed over a tile.
    """
    (
        coefficients, by_coefficient, factors, left, right, _, cotangent, moving, by_factor, ones
    ) = _split(work, plan)  # fmt: skip
    ones[:] = 1
    n_tiles = -(-len(grad_outputs) // plan.n_lanes)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_factors(factors, first_cos, first_sin, later_cos, later_sin, plan, tile)
            _load_cotangent(cotangent, grad_outputs, plan, tile)
            _make_coefficients(coefficients, factors, plan)
            by_coefficient[:] = 0
            for sector in plan.prefix_sectors:
                _sweep_left(left, coefficients, ones, plan, sector)
                _sweep_right(right, coefficients, plan, sector)
                _adjoin_left(
                    by_coefficient, moving, left, right, cotangent, coefficients, ones, plan, sector
                )
                _adjoin_right(
                    by_coefficient, moving, left, right, cotangent, coefficients, plan, sector
                )
            for sector in plan.closing_sectors:
                _sweep_closing(left, coefficients, plan, sector)
                _adjoin_closing(by_coefficient, moving, left, cotangent, coefficients, plan, sector)
            _store_gradients(
                grad_first, grad_later, by_coefficient, by_factor, coefficients, factors, plan, tile
            )
        chunk = next_number(counters, 0)


@njit(inline="always")
def _split(work, plan):
    """The parts of a thread's memory: see `n_scalars`."""
    n, width = plan.n_qubits, plan.n_lanes
    a = n * plan.n_coefficients * width
    b = a + n * plan.n_coefficients * width
    c = b + n * 2 * plan.n_layers * width
    d = c + n * plan.n_class * width
    e = d + n * plan.n_block * width
    f = e + n * width
    g = f + n * width
    h = g + 2 * plan.n_class * width
    i = h + 2 * plan.n_layers * width
    return (
        work[:a], work[a:b], work[b:c], work[c:d], work[d:e], work[e:f], work[f:g], work[g:h],
        work[h:i], work[i : i + width],
    )  # fmt: skip


@njit
def _apply(add, table, group, dst, d0, one, a0, other, b0, width):
    """A group of a table's sums; the arrays' rows are counted from rows d0, a0 and b0."""
    sum_products(
        add, dst, d0 * width, one, a0 * width, other, b0 * width, table.stream,
        table.start[group], table.start[group + 1],
    )  # fmt: skip


@njit(inline="always")
def _load_factors(factors, first_cos, first_sin, later_cos, later_sin, plan, tile):
    """Cosine and sine of every layer, qubit by qubit."""
    width, n_layers = plan.n_lanes, plan.n_layers
    for lane in range(width):
        # The last tile is filled up with copies of the last sample.
        sample = min(tile * width + lane, len(first_cos) - 1)
        later_sample = sample if later_cos.shape[1] > 1 else 0
        for qubit in range(plan.n_qubits):
            at = 2 * qubit * n_layers * width + lane
            factors[at] = first_cos[sample, qubit]
            factors[at + width] = first_sin[sample, qubit]
            for layer in range(n_layers - 1):
                at += 2 * width
                factors[at] = later_cos[layer, later_sample, qubit]
                factors[at + width] = later_sin[layer, later_sample, qubit]


@njit(inline="always")
def _load_cotangent(cotangent, grad_outputs, plan, tile):
    width = plan.n_lanes
    for lane in range(width):
        sample = tile * width + lane
        for qubit in range(plan.n_qubits):
            inside = sample < len(grad_outputs)
            cotangent[qubit * width + lane] = grad_outputs[sample, qubit] if inside else 0


@njit(inline="always")
def _make_coefficients(coefficients, factors, plan):
    width = plan.n_lanes
    for qubit in range(plan.n_qubits):
        at, factors_at = qubit * plan.n_coefficients, 2 * qubit * plan.n_layers
        coefficients[at * width : (at + 1) * width] = 1
        _apply(
            0, plan.coefficients, 0, coefficients, at, coefficients, at, factors, factors_at, width
        )


@njit(inline="always")
def _sweep_left(left, coefficients, ones, plan, sector):
    """States after each qubit, Z being measured on it and all before."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_class
    left[: step * width] = 0
    _apply(0, plan.first_z.forward, sector, left, 0, ones, 0, coefficients, 0, width)
    for qubit in range(1, plan.n_qubits):
        here = qubit * step
        _apply(
            0, plan.later_z.forward, plan.class_of[sector], left, here, left, here - step,
            coefficients, qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _end(states, start, offset, plan, sector):
    """Set the states that may follow the last qubit, in rows from ``start``, to 1."""
    width = plan.n_lanes
    for entry in range(plan.last_start[sector], plan.last_start[sector + 1]):
        at = (start + plan.last[entry] - offset) * width
        states[at : at + width] = 1


@njit(inline="always")
def _sweep_right(right, coefficients, plan, sector):
    """What each state after a qubit is worth, the identity being measured on all that follow."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_block
    block = plan.block_of[sector]
    right[:] = 0  # no sum goes to states that are worth nothing
    _end(right, (plan.n_qubits - 1) * step, plan.block_start[block], plan, sector)
    for qubit in range(plan.n_qubits - 1, 0, -1):
        here = qubit * step
        _apply(
            0, plan.later_identity.backward, block, right, here - step, right, here, coefficients,
            qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _sweep_closing(states, coefficients, plan, sector):
    """What each state after a qubit is worth, Z being measured on all that follow."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_class
    here = (plan.n_qubits - 1) * step
    states[here * width : (here + step) * width] = 0
    _end(states, here, 0, plan, sector)
    for qubit in range(plan.n_qubits - 1, 0, -1):
        here = qubit * step
        _apply(
            0, plan.later_z.backward, plan.class_of[sector], states, here - step, states, here,
            coefficients, qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _read_prefixes(out, left, right, plan, sector):
    width, block = plan.n_lanes, plan.block_of[sector]
    for i in range(plan.first_output, plan.n_qubits):
        one, other = i * plan.n_class + plan.block_start[block], i * plan.n_block
        for state in range(plan.block_size[block]):
            add_product(out, i * width, left, (one + state) * width, right, (other + state) * width)


@njit(inline="always")
def _read_closing(out, states, coefficients, plan, sector):
    width, last = plan.n_lanes, plan.n_qubits - 1
    if plan.reads_last[sector]:
        table = plan.first_z.backward
        _apply(1, table, sector, out, last, states, 0, coefficients, 0, width)
    if plan.reads_first[sector]:
        table = plan.first_identity.backward
        _apply(1, table, sector, out, 0, states, 0, coefficients, 0, width)


@njit(inline="always")
def _adjoin_left(by_coefficient, moving, left, right, cotangent, coefficients, ones, plan, sector):
    """Gradients by the coefficients of Z, while the gradient by ``left`` moves to the left."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_class
    kind, block = plan.class_of[sector], plan.block_of[sector]
    here, there = 0, step
    moving[: step * width] = 0
    for qubit in range(plan.n_qubits - 1, -1, -1):
        if qubit >= plan.first_output:
            for state in range(plan.block_size[block]):
                add_product(
                    moving, (here + plan.block_start[block] + state) * width,
                    cotangent, qubit * width, right, (qubit * plan.n_block + state) * width,
                )  # fmt: skip
        if qubit > 0:
            _apply(
                1, plan.later_z.gradient, kind, by_coefficient, qubit * size,
                left, (qubit - 1) * step, moving, here, width,
            )  # fmt: skip
            _apply(
                0, plan.later_z.backward, kind, moving, there, moving, here, coefficients,
                qubit * size, width,
            )  # fmt: skip
            here, there = there, here
    _apply(1, plan.first_z.gradient, sector, by_coefficient, 0, ones, 0, moving, here, width)


@njit(inline="always")
def _adjoin_right(by_coefficient, moving, left, right, cotangent, coefficients, plan, sector):
    """Gradients by the coefficients of identities; the gradient by ``right`` moves to the right."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_block
    block = plan.block_of[sector]
    here, there = 0, step
    moving[: 2 * step * width] = 0
    for qubit in range(plan.first_output, plan.n_qubits - 1):
        at = qubit * plan.n_class + plan.block_start[block]
        for state in range(plan.block_size[block]):
            add_product(
                moving, (here + state) * width, cotangent, qubit * width, left, (at + state) * width
            )
        _apply(
            1, plan.later_identity.gradient, block, by_coefficient, (qubit + 1) * size,
            moving, here, right, (qubit + 1) * step, width,
        )  # fmt: skip
        moving[there * width : (there + step) * width] = 0
        _apply(
            0, plan.later_identity.forward, block, moving, there, moving, here, coefficients,
            (qubit + 1) * size, width,
        )  # fmt: skip
        here, there = there, here


@njit(inline="always")
def _adjoin_closing(by_coefficient, moving, states, cotangent, coefficients, plan, sector):
    """Gradients by the coefficients of Z for the outputs that do not leave the last qubit out."""
    width, size, step = plan.n_lanes, plan.n_coefficients, plan.n_class
    kind, last = plan.class_of[sector], plan.n_qubits - 1
    here, there = 0, step
    moving[: step * width] = 0
    if plan.reads_last[sector]:
        tables = plan.first_z
        _apply(1, tables.forward, sector, moving, 0, cotangent, last, coefficients, 0, width)
        _apply(1, tables.gradient, sector, by_coefficient, 0, cotangent, last, states, 0, width)
    if plan.reads_first[sector]:
        tables = plan.first_identity
        _apply(1, tables.forward, sector, moving, 0, cotangent, 0, coefficients, 0, width)
        _apply(1, tables.gradient, sector, by_coefficient, 0, cotangent, 0, states, 0, width)
    for qubit in range(1, plan.n_qubits):
        _apply(
            1, plan.later_z.gradient, kind, by_coefficient, qubit * size, moving, here,
            states, qubit * step, width,
        )  # fmt: skip
        _apply(
            0, plan.later_z.forward, kind, moving, there, moving, here, coefficients,
            qubit * size, width,
        )  # fmt: skip
        here, there = there, here


@njit(inline="always")
def _store_gradients(
    grad_first, grad_later, by_coefficient, by_factor, coefficients, factors, plan, tile
):
    """From gradients by coefficients to gradients by angles."""
    width, n_layers = plan.n_lanes, plan.n_layers
    n_inside = min(width, len(grad_first) - tile * width)
    shared = grad_later.shape[1] != len(grad_first)
    for qubit in range(plan.n_qubits):
        _differentiate_coefficients(by_coefficient, by_factor, coefficients, factors, plan, qubit)
        for layer in range(n_layers):
            row = 2 * layer * width
            cos = 2 * qubit * n_layers * width + row
            total = 0.0
            for lane in range(n_inside):
                by_angle = by_factor[row + width + lane] * factors[cos + lane]
                by_angle -= by_factor[row + lane] * factors[cos + width + lane]
                if layer == 0:
                    grad_first[tile * width + lane, qubit] = by_angle
                elif shared:
                    total += by_angle
                else:
                    grad_later[layer - 1, tile * width + lane, qubit] = by_angle
            if layer > 0 and shared:
                grad_later[layer - 1, tile, qubit] = total


@njit(inline="always")
def _differentiate_coefficients(by_coefficient, by_factor, coefficients, factors, plan, qubit):
    """From gradients by a qubit's coefficients to gradients by its cosines and sines."""
    width = plan.n_lanes
    at, factors_at = qubit * plan.n_coefficients, 2 * qubit * plan.n_layers
    for layer in range(plan.n_layers - 1, -1, -1):
        _apply(0, plan.by_factor, layer, by_factor, 0, by_coefficient, at, coefficients, at, width)
        _apply(
            1, plan.by_smaller, layer, by_coefficient, at, by_coefficient, at, factors, factors_at,
            width,
        )  # fmt: skip
