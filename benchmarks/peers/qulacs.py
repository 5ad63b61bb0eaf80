"""Qulacs in double precision, one circuit a sample: gradients by its own backpropagation.

Its RY turns the other way, so angles and gradients change their sign.
"""

from __future__ import annotations

import numpy as np
from qulacs import Observable, ParametricQuantumCircuit, QuantumState


def build(job):
    n = job.n_qubits
    circuit = ParametricQuantumCircuit(n)
    for wire in range(n):
        circuit.add_parametric_RY_gate(wire, 0.0)
    for _ in range(job.n_layers):
        for wire in range(n):
            circuit.add_parametric_RY_gate(wire, 0.0)
        for wire in range(n):
            circuit.add_CNOT_gate(wire, (wire + 1) % n)
    state = QuantumState(n)
    readouts = []
    for wire in range(n):
        readouts.append(Observable(n))
        readouts[wire].add_operator(1.0, f"Z {wire}")

    def run():
        outputs = np.empty(job.inputs.shape)
        gradients = np.empty((len(job.inputs), circuit.get_parameter_count()))
        for sample, angles in enumerate(job.inputs):
            for k, angle in enumerate([*angles, *job.weights.flat]):
                circuit.set_parameter(k, -float(angle))
            state.set_zero_state()
            circuit.update_quantum_state(state)
            outputs[sample] = [readout.get_expectation_value(state) for readout in readouts]
            loss = Observable(n)
            for wire, factor in enumerate(job.cotangent[sample]):
                loss.add_operator(float(factor), f"Z {wire}")
            gradients[sample] = circuit.backprop(loss)
        by_weights = -gradients[:, n:].sum(0).reshape(job.weights.shape)
        return outputs, -gradients[:, :n], by_weights

    return run
