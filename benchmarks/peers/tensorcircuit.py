"""TensorCircuit-NG on jax: jit of a vmap over the samples, gradients by jax.

All Pauli-Z are read from the probabilities: with `expectation_ps` for each it took up to twice as
long. Compiled before the clock runs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import tensorcircuit as tc

tc.set_backend("jax")
tc.set_dtype("complex64")


def build(job):
    n = job.n_qubits
    inputs, weights, cotangent = map(jnp.asarray, (job.inputs, job.weights, job.cotangent))

    signs = jnp.asarray(1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1), jnp.float32)

    def circuit(sample, weights, signs):
        c = tc.Circuit(n)
        for wire in range(n):
            c.ry(wire, theta=sample[wire])
        for layer in range(job.n_layers):
            for wire in range(n):
                c.ry(wire, theta=weights[layer, wire])
            for wire in range(n):
                c.cnot(wire, (wire + 1) % n)
        return c.probability() @ signs

    def layer(inputs, weights, signs, cotangent):
        batched = jax.vmap(circuit, in_axes=(0, None, None))
        outputs, backward = jax.vjp(lambda x, w: batched(x, w, signs), inputs, weights)
        return outputs, *backward(cotangent)

    compiled = jax.jit(layer).lower(inputs, weights, signs, cotangent).compile()
    return lambda: jax.block_until_ready(compiled(inputs, weights, signs, cotangent))
