"""The circuit on real devices: values within their shot noise, noise as computed, gradients."""

import math

import pytest
import torch

from quantum_hybrid.circuit import Ansatz, DeviceCircuit, QuantumLayer, on_device, statevector

SIMULATORS = ["default.qubit", "lightning.qubit", "default.mixed", "qiskit.aer", "qulacs.simulator"]
SEEDED = SIMULATORS[:-1]
STANDARD_ERRORS = 6
"""Beyond this many a draw is a defect: 2e-9 for a Gaussian."""


def draw_angles(ansatz, batch, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = 6 * torch.rand(batch, ansatz.n_qubits, generator=generator, dtype=torch.float64) - 3
    weights = torch.randn(
        ansatz.n_layers, ansatz.n_qubits, generator=generator, dtype=torch.float64
    )
    return inputs.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_()


def exact(ansatz, inputs, weights):
    with torch.no_grad():
        return statevector.expectations(ansatz, inputs, weights)


@pytest.mark.parametrize("device", SIMULATORS)
@pytest.mark.parametrize(
    "ansatz", [Ansatz(3, 2), Ansatz(2, 2, "chain", reupload=True), Ansatz(1, 1)], ids=str
)
def test_shots_scatter_about_the_exact_value(device, ansatz):
    inputs, weights = draw_angles(ansatz, 6)
    shots = 1000
    measured = DeviceCircuit(ansatz, device, shots=shots).measure(inputs, weights)
    expected = exact(ansatz, inputs, weights)
    assert measured.expectations.dtype == torch.float64
    deviation = (measured.expectations - expected) / ((1 - expected**2) / shots).sqrt()
    assert deviation.abs().max() < STANDARD_ERRORS
    assert deviation.abs().max() > 0.2  # it was measured, not computed
    # Every outcome is +1 or -1, so a mean of them is a whole number of steps of 2 / shots.
    steps = (1 + measured.expectations) * shots / 2
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "default.mixed"])
def test_without_shots_it_is_the_exact_engine_and_its_gradient(device):
    ansatz = Ansatz(3, 2, reupload=True)
    angles = draw_angles(ansatz, 2)
    outputs = DeviceCircuit(ansatz, device, shots=None).expectations(*angles)
    expected = statevector.expectations(ansatz, *angles)
    # lightning.qubit itself is off by 6e-8.
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    cotangent = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3) + 0.3
    gradients = torch.autograd.grad(outputs, angles, cotangent)
    for got, wanted in zip(
        gradients, torch.autograd.grad(expected, angles, cotangent), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "qulacs.simulator"])
def test_gradient_by_shots_scatters_about_the_exact_one(device):
    """Each partial derivative is half the difference of two means of `shots` outcomes, so its
    standard error is at most 1 / sqrt(2 shots)."""
    ansatz, shots = Ansatz(3, 2), 2000
    angles = draw_angles(ansatz, 4)
    outputs = DeviceCircuit(ansatz, device, shots=shots).expectations(*angles)
    expected = statevector.expectations(ansatz, *angles)
    for output in range(3):
        got = torch.autograd.grad(outputs[:, output].sum(), angles, retain_graph=True)
        wanted = torch.autograd.grad(expected[:, output].sum(), angles, retain_graph=True)
        bound = STANDARD_ERRORS / math.sqrt(2 * shots)
        assert 0 < (got[0] - wanted[0]).abs().max() < bound
        # Summed over four samples.
        assert 0 < (got[1] - wanted[1]).abs().max() < 2 * bound


def test_gradient_on_qiskit_aer():
    ansatz, shots = Ansatz(2, 1), 4000
    layer = on_device(QuantumLayer(2, 1), "qiskit.aer", shots=shots, seed=3)
    inputs, weights = draw_angles(ansatz, 1, torch.float32)
    with torch.no_grad():
        layer.weights.copy_(weights)
    layer(inputs)[0, 1].backward()
    expected = statevector.expectations(ansatz, inputs, weights)[0, 1]
    wanted = torch.autograd.grad(expected, (inputs, weights))
    assert inputs.grad is not None
    assert layer.weights.grad is not None
    bound = STANDARD_ERRORS / math.sqrt(2 * shots)
    for got, want in ((inputs.grad, wanted[0]), (layer.weights.grad, wanted[1])):
        assert (got - want).abs().max() < bound


def test_training_on_shots_lowers_the_loss():
    """Weights are learned through measured gradients until the circuit gives a wanted output."""
    layer = QuantumLayer(3, 2, engine="statevector", generator=torch.Generator().manual_seed(1))
    measured = on_device(layer, "lightning.qubit", shots=200, seed=1)
    inputs = torch.tensor([[0.4, -0.3, 0.8]])
    wanted = torch.tensor([[-0.5, 0.5, 0.0]])
    optimizer = torch.optim.Adam(measured.parameters(), lr=0.2)

    def exact_loss():
        with torch.no_grad():
            return (layer(inputs) - wanted).square().mean().item()

    before = exact_loss()
    for _ in range(25):
        optimizer.zero_grad()
        (measured(inputs) - wanted).square().mean().backward()
        optimizer.step()
    assert before > 0.3
    assert exact_loss() < 0.03


@pytest.mark.parametrize("p", [0.0, 0.05, 0.75])
@pytest.mark.parametrize("entangler", ["none", "chain", "ring"])
def test_depolarising_shrinks_by_the_known_factor(entangler, p):
    """One layer, no shots. The channel multiplies every Pauli but the identity by f = 1 - 4p/3,
    whatever the rotations make of it. Output i, followed backwards, is a string of Z that loses f
    for each qubit of it that a CNOT touches, and f^2 for each qubit it ends on: two rotations."""
    ansatz = Ansatz(4, 1, entangler)
    inputs, weights = draw_angles(ansatz, 3)
    circuit = DeviceCircuit(ansatz, "default.mixed", shots=None, depolarising=p)
    factors = []
    for output in range(4):
        string, count = {output}, 0
        for control, target in reversed(ansatz.cnots):
            count += len(string & {control, target})
            if target in string:
                string ^= {control}
        factors.append((1 - 4 * p / 3) ** (count + 2 * len(string)))
    expected = exact(ansatz, inputs, weights) * torch.tensor(factors, dtype=torch.float64)
    got = circuit.expectations(inputs, weights)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_noise_keeps_shots_and_gradients_right():
    ansatz, shots = Ansatz(2, 1, "none"), 4000
    inputs, weights = draw_angles(ansatz, 2)
    circuit = DeviceCircuit(ansatz, "default.mixed", shots=shots, seed=5, depolarising=0.1)
    factor = (1 - 0.4 / 3) ** 2
    z = torch.cos(inputs + weights[0])
    measured = circuit.measure(inputs, weights)
    deviation = measured.expectations - factor * z
    assert (deviation / measured.standard_errors).abs().max() < STANDARD_ERRORS
    circuit.expectations(inputs, weights).sum().backward()
    assert inputs.grad is not None
    wanted = -factor * torch.sin(inputs + weights[0])
    assert (inputs.grad - wanted).abs().max() < STANDARD_ERRORS / math.sqrt(shots)


def test_noise_model_of_qiskit_aer():
    """A plugin's own option reaches it: every CNOT fully depolarises, so nothing is left."""
    noise = pytest.importorskip("qiskit_aer.noise")
    model = noise.NoiseModel()
    model.add_all_qubit_quantum_error(noise.depolarizing_error(1.0, 2), ["cx"])
    ansatz, shots = Ansatz(2, 1, "chain"), 2000
    circuit = DeviceCircuit(ansatz, "qiskit.aer", shots=shots, seed=1, noise_model=model)
    z = circuit.expectations(torch.zeros(1, 2), torch.zeros(1, 2))
    assert z.abs().max() < STANDARD_ERRORS / math.sqrt(shots)
    quiet = DeviceCircuit(ansatz, "qiskit.aer", shots=shots, seed=1)
    assert torch.equal(quiet.expectations(torch.zeros(1, 2), torch.zeros(1, 2)), torch.ones(1, 2))


def test_standard_errors_are_the_scatter_of_repeated_measurements():
    """Of 400 equal circuits; a standard deviation of so many is known to 3.5 %."""
    ansatz = Ansatz(3, 1)
    inputs, weights = draw_angles(ansatz, 1)
    circuit = DeviceCircuit(ansatz, "lightning.qubit", shots=100, seed=2)
    measured = circuit.measure(inputs.expand(400, -1), weights)
    scatter = measured.expectations.std(0)
    claimed = measured.standard_errors.square().mean(0).sqrt()
    torch.testing.assert_close(scatter, claimed, rtol=6 * 0.036, atol=0)


def test_standard_errors_of_none_and_of_one_shot():
    ansatz = Ansatz(2, 1)
    angles = draw_angles(ansatz, 1)
    without = DeviceCircuit(ansatz, "default.qubit", shots=None).measure(*angles)
    assert torch.equal(without.standard_errors, torch.zeros(1, 2, dtype=torch.float64))
    single = DeviceCircuit(ansatz, "default.qubit", shots=1).measure(*angles)
    assert single.expectations.abs().eq(1).all()
    assert single.standard_errors.isnan().all()


@pytest.mark.parametrize("device", SEEDED)
def test_same_seed_same_shots_but_no_call_repeats_the_last(device):
    ansatz = Ansatz(2, 1)
    inputs, weights = draw_angles(ansatz, 2)
    circuits = [DeviceCircuit(ansatz, device, shots=500, seed=seed) for seed in (7, 7, 8)]
    first, same, other = (circuit.expectations(inputs, weights) for circuit in circuits)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    second = circuits[0].expectations(inputs, weights)
    assert not torch.equal(first, second)
    assert torch.equal(second, circuits[1].expectations(inputs, weights))


def test_equal_samples_of_a_batch_have_shots_of_their_own():
    ansatz = Ansatz(2, 1)
    inputs, weights = draw_angles(ansatz, 1)
    circuit = DeviceCircuit(ansatz, "default.qubit", shots=500, seed=0)
    z = circuit.expectations(inputs.expand(8, -1), weights)
    assert len(z.detach().unique(dim=0)) > 1


def test_shape_dtype_and_an_empty_batch():
    layer = on_device(QuantumLayer(2, 1), "default.qubit", shots=10, seed=0)
    assert layer(torch.zeros(2, 3, 2)).shape == (2, 3, 2)
    assert layer(torch.zeros(2)).dtype == torch.float32
    empty = layer(torch.zeros(0, 2))
    assert empty.shape == (0, 2)
    empty.sum().backward()
    assert layer.weights.grad is not None
    assert torch.equal(layer.weights.grad, torch.zeros(1, 2))
    assert repr(layer) == "DeviceLayer(device='default.qubit', shots=10)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 0}, r"shots=0 is out of range; allowed: an integer from 1 to"),
        ({"shots": -1}, r"shots=-1 is out of range"),
        ({"shots": 10**7}, r"shots=10000000 is out of range"),
        ({"shots": True}, r"shots=True must be an integer from 1 to"),
        ({"seed": -1}, r"seed=-1 must be an integer of at least 0"),
        ({"depolarising": 1.5}, r"depolarising=1\.5 must be a probability"),
        ({"depolarising": float("nan")}, r"depolarising=nan must be a probability"),
        ({"depolarising": 0.1}, r"device='default.qubit': .*DepolarizingChannel.* not supported"),
        ({"device": "no.such"}, r"device='no.such' is unknown; installed: default"),
        (
            {"device": "braket.local.qubit"},
            r"device='braket.local.qubit' is not installed: "
            r"pip install 'amazon-braket-pennylane-plugin'",
        ),
        ({"unheard_of": 1}, r"device='default.qubit': .*unexpected keyword argument 'unheard_of'"),
        ({"device": "default.gaussian"}, r"device='default.gaussian': .*not supported"),
        ({"ansatz": Ansatz(25, 1)}, r"n_qubits=25 is too large for device='default.qubit'"),
        (
            {"ansatz": Ansatz(13, 1), "device": "default.mixed"},
            r"n_qubits=13 is too large for device='default.mixed'; allowed: 1 to 12",
        ),
        (
            {"device": "qulacs.simulator", "seed": 1},
            r"seed=1: device='qulacs.simulator' takes no seed",
        ),
        (
            {"device": "qulacs.simulator", "depolarising": 0.1},
            r"device='qulacs.simulator': .*DepolarizingChannel not supported",
        ),
        (
            {"device": "qiskit.aer", "shots": None},
            r"shots=None: device='qiskit.aer' measures by shots",
        ),
        ({"device": "qiskit.remote"}, r"device='qiskit.remote': .*required .* argument: 'backend'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Operator .* does not define a decomposition")
def test_what_cannot_be_run_is_refused_in_one_line(arguments, message):
    values = {"ansatz": Ansatz(2, 1), "device": "default.qubit", "shots": 10} | arguments
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as caught:
        DeviceCircuit(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"shots": 1.5}, {"device": 3}, {"shots": "many"}])
def test_a_wrong_type_is_refused(arguments):
    values = {"ansatz": Ansatz(2, 1), "device": "default.qubit", "shots": 10} | arguments
    with pytest.raises(TypeError):
        DeviceCircuit(**values)


@pytest.mark.parametrize(
    ("inputs", "weights", "message"),
    [
        (torch.zeros(3), torch.zeros(1, 2), r"inputs has shape \(3,\); allowed: \(\.\.\., 2\)"),
        (torch.zeros(()), torch.zeros(1, 2), r"inputs has shape \(\)"),
        (torch.zeros(1, 2), torch.zeros(2, 2), r"weights has shape \(2, 2\); allowed: \(1, 2\)"),
        (torch.zeros(1, 2).half(), torch.zeros(1, 2), r"inputs has dtype torch.float16"),
        (torch.full((1, 2), math.nan), torch.zeros(1, 2), r"inputs holds NaN"),
    ],
)
def test_bad_angles_are_named(inputs, weights, message):
    circuit = DeviceCircuit(Ansatz(2, 1), "default.qubit", shots=10)
    with pytest.raises((ValueError, TypeError), match=message):
        circuit.measure(inputs, weights)
