"""The `tensor_network` engine's loops over qubits, forward and backward, tile by tile.

A *tile* is one sample for each lane: a row holds one quantity of 32 samples in float32, of 16 in
float64. `Network` holds everything that depends on the ansatz alone; docs/circuit.md derives the
computation. In each sector that contributes,

- ``left`` holds the states after each qubit, with Z measured on it and on all qubits before it,
- ``right`` holds the value of each of these states, with the identity measured on all later qubits,
- output ``i`` is their inner product after qubit ``i``.

Two outputs of a ring measure Z on the last qubit; they have a sweep of their own, called *closing*.

Numba compiles this at the first call for a dtype, once on a machine: the result is cached on disk.
"""

# pyright: reportCallIssue=false
# An intrinsic's first parameter is Numba's, and not for the caller.

from numba import njit

from quantum_hybrid.circuit.tensor_network.network import Network
from quantum_hybrid.circuit.tensor_network.product_sums import add_product, sum_products
from quantum_hybrid.compiled.machine_code import compiled
from quantum_hybrid.compiled.threads import next_number


def n_scalars(network: Network) -> int:
    """Length of ``work`` for `forward` and `backward`, in scalars."""
    n_factors = 2 * network.n_layers
    at_qubit = 2 * network.n_coefficients + n_factors + network.n_class + network.n_block + 2
    elsewhere = 2 * network.n_class + n_factors + 1
    return (network.n_qubits * at_qubit + elsewhere) * network.n_lanes


@compiled
def forward(
    outputs, first_cos, first_sin, later_cos, later_sin, network, chunk_tiles, counters, work
):  # fmt: skip
    """Outputs ``(samples, n)`` in [-1, 1]; several threads may run this on the same arrays.

    first_cos, first_sin: (samples, n), of the angles of layer 0. later_cos, later_sin:
    (L - 1, samples, n) of the others, or (L - 1, 1, n) where all samples share them. chunk_tiles:
    tiles that a thread takes at a time. counters: one zero before the first thread starts. work:
    memory of the thread, `n_scalars` numbers, aligned to 64 bytes; its contents do not matter.
    """
    n, width = network.n_qubits, network.n_lanes
    coefficients, _, factors, left, right, out, _, _, _, ones = _split(work, network)
    ones[:] = 1
    n_tiles = -(-len(outputs) // network.n_lanes)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_factors(factors, first_cos, first_sin, later_cos, later_sin, network, tile)
            _make_coefficients(coefficients, factors, network)
            out[:] = 0
            for sector in network.prefix_sectors:
                _sweep_left(left, coefficients, ones, network, sector)
                _sweep_right(right, coefficients, network, sector)
                _read_prefixes(out, left, right, network, sector)
            for sector in network.closing_sectors:
                _sweep_closing(left, coefficients, network, sector)
                _read_closing(out, left, coefficients, network, sector)
            for lane in range(min(width, len(outputs) - tile * width)):
                for i in range(n):
                    outputs[tile * width + lane, i] = out[i * width + lane]
        chunk = next_number(counters, 0)


@compiled
def backward(
    grad_first, grad_later, grad_outputs, first_cos, first_sin, later_cos, later_sin, network,
    chunk_tiles, counters, work,
):  # fmt: skip
    """Gradients by the angles, written; other arguments as in `forward`.

    grad_first: (samples, n). grad_later: (L - 1, samples, n), or where all samples share these
    angles (L - 1, tiles, n), summed over each tile. grad_outputs: (samples, n).
    """
    (
        coefficients, by_coefficient, factors, left, right, _, cotangent, moving, by_factor, ones
    ) = _split(work, network)  # fmt: skip
    ones[:] = 1
    n_tiles = -(-len(grad_outputs) // network.n_lanes)
    chunk = next_number(counters, 0)
    while chunk * chunk_tiles < n_tiles:
        for tile in range(chunk * chunk_tiles, min((chunk + 1) * chunk_tiles, n_tiles)):
            _load_factors(factors, first_cos, first_sin, later_cos, later_sin, network, tile)
            _load_cotangent(cotangent, grad_outputs, network, tile)
            _make_coefficients(coefficients, factors, network)
            by_coefficient[:] = 0
            for sector in network.prefix_sectors:
                _sweep_left(left, coefficients, ones, network, sector)
                _sweep_right(right, coefficients, network, sector)
                _adjoin_left(
                    by_coefficient,
                    moving,
                    left,
                    right,
                    cotangent,
                    coefficients,
                    ones,
                    network,
                    sector,
                )
                _adjoin_right(
                    by_coefficient, moving, left, right, cotangent, coefficients, network, sector
                )
            for sector in network.closing_sectors:
                _sweep_closing(left, coefficients, network, sector)
                _adjoin_closing(
                    by_coefficient, moving, left, cotangent, coefficients, network, sector
                )
            _store_gradients(
                grad_first,
                grad_later,
                by_coefficient,
                by_factor,
                coefficients,
                factors,
                network,
                tile,
            )
        chunk = next_number(counters, 0)


@njit(inline="always")
def _split(work, network):
    """The parts of a thread's memory, in the order of `backward`'s variables; see `n_scalars`."""
    n, width = network.n_qubits, network.n_lanes
    a = n * network.n_coefficients * width
    b = a + n * network.n_coefficients * width
    c = b + n * 2 * network.n_layers * width
    d = c + n * network.n_class * width
    e = d + n * network.n_block * width
    f = e + n * width
    g = f + n * width
    h = g + 2 * network.n_class * width
    i = h + 2 * network.n_layers * width
    return (
        work[:a], work[a:b], work[b:c], work[c:d], work[d:e], work[e:f], work[f:g], work[g:h],
        work[h:i], work[i : i + width],
    )  # fmt: skip


@njit
def _apply(add, table, group, dst, d0, one, a0, other, b0, width):
    """Compute one group of a table's sums, with rows counted from rows d0, a0 and b0."""
    sum_products(
        add, dst, d0 * width, one, a0 * width, other, b0 * width, table.stream,
        table.start[group], table.start[group + 1],
    )  # fmt: skip


@njit(inline="always")
def _load_factors(factors, first_cos, first_sin, later_cos, later_sin, network, tile):
    """Fill ``factors``: for each qubit the cosine and the sine of each layer's angle."""
    width, n_layers = network.n_lanes, network.n_layers
    for lane in range(width):
        # The last tile is padded with copies of the last sample.
        sample = min(tile * width + lane, len(first_cos) - 1)
        later_sample = sample if later_cos.shape[1] > 1 else 0
        for qubit in range(network.n_qubits):
            at = 2 * qubit * n_layers * width + lane
            factors[at] = first_cos[sample, qubit]
            factors[at + width] = first_sin[sample, qubit]
            for layer in range(n_layers - 1):
                at += 2 * width
                factors[at] = later_cos[layer, later_sample, qubit]
                factors[at + width] = later_sin[layer, later_sample, qubit]


@njit(inline="always")
def _load_cotangent(cotangent, grad_outputs, network, tile):
    width = network.n_lanes
    for lane in range(width):
        sample = tile * width + lane
        for qubit in range(network.n_qubits):
            # A padded lane must not contribute to the gradient by the weights.
            inside = sample < len(grad_outputs)
            cotangent[qubit * width + lane] = grad_outputs[sample, qubit] if inside else 0


@njit(inline="always")
def _make_coefficients(coefficients, factors, network):
    width = network.n_lanes
    for qubit in range(network.n_qubits):
        at, factors_at = qubit * network.n_coefficients, 2 * qubit * network.n_layers
        # Coefficient 0 is the empty product; each other one is a smaller one times one factor.
        coefficients[at * width : (at + 1) * width] = 1
        _apply(
            0,
            network.coefficients,
            0,
            coefficients,
            at,
            coefficients,
            at,
            factors,
            factors_at,
            width,
        )


@njit(inline="always")
def _sweep_left(left, coefficients, ones, network, sector):
    """States after each qubit, with Z measured on it and on all qubits before it."""
    width, size, step = network.n_lanes, network.n_coefficients, network.n_class
    left[: step * width] = 0  # the table writes only the states that the sector reaches
    _apply(0, network.first_z.forward, sector, left, 0, ones, 0, coefficients, 0, width)
    for qubit in range(1, network.n_qubits):
        here = qubit * step
        _apply(
            0, network.later_z.forward, network.class_of[sector], left, here, left, here - step,
            coefficients, qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _end(states, start, offset, network, sector):
    """Set the states that are allowed after the last qubit to 1, in rows from ``start`` on.

    offset: number of the state, within its class, that row ``start`` holds.
    """
    width = network.n_lanes
    for entry in range(network.last_start[sector], network.last_start[sector + 1]):
        at = (start + network.last[entry] - offset) * width
        states[at : at + width] = 1


@njit(inline="always")
def _sweep_right(right, coefficients, network, sector):
    """Value of each state after a qubit, with the identity measured on all later qubits."""
    width, size, step = network.n_lanes, network.n_coefficients, network.n_block
    block = network.block_of[sector]
    right[:] = 0  # the tables do not write states without a way to the end
    _end(right, (network.n_qubits - 1) * step, network.block_start[block], network, sector)
    for qubit in range(network.n_qubits - 1, 0, -1):
        here = qubit * step
        _apply(
            0, network.later_identity.backward, block, right, here - step, right, here,
            coefficients, qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _sweep_closing(states, coefficients, network, sector):
    """Value of each state after a qubit, with Z measured on all later qubits."""
    width, size, step = network.n_lanes, network.n_coefficients, network.n_class
    here = (network.n_qubits - 1) * step
    states[here * width : (here + step) * width] = 0
    _end(states, here, 0, network, sector)
    for qubit in range(network.n_qubits - 1, 0, -1):
        here = qubit * step
        _apply(
            0, network.later_z.backward, network.class_of[sector], states, here - step,
            states, here, coefficients, qubit * size, width,
        )  # fmt: skip


@njit(inline="always")
def _read_prefixes(out, left, right, network, sector):
    width, block = network.n_lanes, network.block_of[sector]
    for i in range(network.first_output, network.n_qubits):
        one, other = i * network.n_class + network.block_start[block], i * network.n_block
        for state in range(network.block_size[block]):
            add_product(out, i * width, left, (one + state) * width, right, (other + state) * width)


@njit(inline="always")
def _read_closing(out, states, coefficients, network, sector):
    width, last = network.n_lanes, network.n_qubits - 1
    if network.reads_last[sector]:
        table = network.first_z.backward
        _apply(1, table, sector, out, last, states, 0, coefficients, 0, width)
    if network.reads_first[sector]:
        table = network.first_identity.backward
        _apply(1, table, sector, out, 0, states, 0, coefficients, 0, width)


@njit(inline="always")
def _adjoin_left(
    by_coefficient, moving, left, right, cotangent, coefficients, ones, network, sector
):
    """Add the gradients by the coefficients where Z is measured.

    ``moving`` is the gradient by ``left`` at a qubit; it moves from the last qubit to the first.
    """
    width, size, step = network.n_lanes, network.n_coefficients, network.n_class
    kind, block = network.class_of[sector], network.block_of[sector]
    here, there = 0, step  # ``moving`` has two halves: at this qubit, and at the next one
    moving[: step * width] = 0
    for qubit in range(network.n_qubits - 1, -1, -1):
        if qubit >= network.first_output:
            for state in range(network.block_size[block]):
                add_product(
                    moving, (here + network.block_start[block] + state) * width,
                    cotangent, qubit * width, right, (qubit * network.n_block + state) * width,
                )  # fmt: skip
        if qubit > 0:
            _apply(
                1, network.later_z.gradient, kind, by_coefficient, qubit * size,
                left, (qubit - 1) * step, moving, here, width,
            )  # fmt: skip
            _apply(
                0, network.later_z.backward, kind, moving, there, moving, here, coefficients,
                qubit * size, width,
            )  # fmt: skip
            here, there = there, here
    _apply(1, network.first_z.gradient, sector, by_coefficient, 0, ones, 0, moving, here, width)


@njit(inline="always")
def _adjoin_right(by_coefficient, moving, left, right, cotangent, coefficients, network, sector):
    """Add the gradients by the coefficients where the identity is measured.

    ``moving`` is the gradient by ``right`` at a qubit; it moves from the first qubit to the last.
    """
    width, size, step = network.n_lanes, network.n_coefficients, network.n_block
    block = network.block_of[sector]
    here, there = 0, step
    moving[: 2 * step * width] = 0
    for qubit in range(network.first_output, network.n_qubits - 1):
        at = qubit * network.n_class + network.block_start[block]
        for state in range(network.block_size[block]):
            add_product(
                moving, (here + state) * width, cotangent, qubit * width, left, (at + state) * width
            )
        _apply(
            1, network.later_identity.gradient, block, by_coefficient, (qubit + 1) * size,
            moving, here, right, (qubit + 1) * step, width,
        )  # fmt: skip
        # The table does not write all of the block's states, and the next outputs add to them.
        moving[there * width : (there + step) * width] = 0
        _apply(
            0, network.later_identity.forward, block, moving, there, moving, here, coefficients,
            (qubit + 1) * size, width,
        )  # fmt: skip
        here, there = there, here


@njit(inline="always")
def _adjoin_closing(by_coefficient, moving, states, cotangent, coefficients, network, sector):
    """As `_adjoin_right`, for the outputs that measure Z on the last qubit."""
    width, size, step = network.n_lanes, network.n_coefficients, network.n_class
    kind, last = network.class_of[sector], network.n_qubits - 1
    here, there = 0, step
    moving[: step * width] = 0
    if network.reads_last[sector]:
        tables = network.first_z
        _apply(1, tables.forward, sector, moving, 0, cotangent, last, coefficients, 0, width)
        _apply(1, tables.gradient, sector, by_coefficient, 0, cotangent, last, states, 0, width)
    if network.reads_first[sector]:
        tables = network.first_identity
        _apply(1, tables.forward, sector, moving, 0, cotangent, 0, coefficients, 0, width)
        _apply(1, tables.gradient, sector, by_coefficient, 0, cotangent, 0, states, 0, width)
    for qubit in range(1, network.n_qubits):
        _apply(
            1, network.later_z.gradient, kind, by_coefficient, qubit * size, moving, here,
            states, qubit * step, width,
        )  # fmt: skip
        _apply(
            0, network.later_z.forward, kind, moving, there, moving, here, coefficients,
            qubit * size, width,
        )  # fmt: skip
        here, there = there, here


@njit(inline="always")
def _store_gradients(
    grad_first, grad_later, by_coefficient, by_factor, coefficients, factors, network, tile
):
    """Write the gradients by the angles: d/dt = cos t d/d(sin) - sin t d/d(cos)."""
    width, n_layers = network.n_lanes, network.n_layers
    n_inside = min(width, len(grad_first) - tile * width)
    shared = grad_later.shape[1] != len(grad_first)
    for qubit in range(network.n_qubits):
        _differentiate_coefficients(
            by_coefficient, by_factor, coefficients, factors, network, qubit
        )
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
def _differentiate_coefficients(by_coefficient, by_factor, coefficients, factors, network, qubit):
    """Gradients by a qubit's cosines and sines, from those by its coefficients."""
    width = network.n_lanes
    at, factors_at = qubit * network.n_coefficients, 2 * qubit * network.n_layers
    # From the last layer: coefficients with a factor of this layer are products of smaller ones,
    # which get their part of the gradient before their own layer's turn.
    for layer in range(network.n_layers - 1, -1, -1):
        _apply(
            0, network.by_factor, layer, by_factor, 0, by_coefficient, at, coefficients, at, width
        )
        _apply(
            1, network.by_smaller, layer, by_coefficient, at, by_coefficient, at, factors,
            factors_at, width,
        )  # fmt: skip
