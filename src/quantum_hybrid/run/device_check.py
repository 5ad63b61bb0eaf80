"""A trained student's circuits on a device: the effect of shots and noise on its predictions.

From a finished run and a PennyLane device to a table and `device-NAME.json` in the run's directory.
Held-out answer tokens are drawn at random. Both circuits of the student run on the device; the
second one gets s times the *measured* outputs of the first, as on hardware. The same is done with
PennyLane's `default.qubit` and the same number of shots, whose only noise is that of the shots; a
larger deviation is the device's own. Both are one draw. For the first circuit the expected effect
of shots is computed too, as the mean of (1 - z^2) / shots over tokens and qubits.

A difference of losses is a mean over the tokens of several answers, which are the independent
units. Its 95 % interval (`evaluation.mean_over_units`) holds for other answers and other shots, not
for other students.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from quantum_hybrid.circuit import Ansatz, DeviceCircuit
from quantum_hybrid.durable import write_json
from quantum_hybrid.errors import CheckpointError, UsageError
from quantum_hybrid.evaluation import all_answer_rows, mean_over_units, row_losses
from quantum_hybrid.run.directory import read_held_out
from quantum_hybrid.student import AnswerRows, HybridConfig, HybridForCausalLM, HybridHead
from quantum_hybrid.student.head import ANGLE_SCALE
from quantum_hybrid.text.encoder import Encoder

ROWS_PER_CHUNK = 256
CIRCUITS: tuple[str, ...] = ("circuit 1", "circuit 2")
PATHWAYS: tuple[str, ...] = ("quantum", "hybrid")


@dataclass(frozen=True)
class DeviceRequest:
    """The user's request: device, shots, tokens, noise and the device's own options."""

    device: str
    shots: int
    tokens: int
    seed: int | None
    depolarising: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Deviation:
    """Deviation of expectation values from the exact ones, over tokens and qubits."""

    rms: float
    largest: float


@dataclass(frozen=True)
class LossDifference:
    """Mean measured minus exact loss in nats per token, with half of its 95 % interval."""

    mean: float
    half_width: float | None
    """None for a single answer."""


@dataclass(frozen=True)
class Findings:
    """Deviations from exact for one source of expectation values: the device, or shots alone."""

    expectations: dict[str, Deviation]
    loss: dict[str, LossDifference]


@torch.no_grad()
def check_device(path: Path, request: DeviceRequest, announce: Callable[[str], None]) -> None:
    """Run the student of a finished run on the device; print and store the deviations."""
    config = _student_config(path)
    transformers_logging.disable_progress_bar()
    sources = _open(config, request)  # A wrong device is refused before the student is loaded.
    student = _load_student(path, config)
    encoder = Encoder(AutoTokenizer.from_pretrained(path / "student"))
    examples = [encoder.example(*pair) for pair in read_held_out(path)]
    rows = all_answer_rows(student, examples)
    n_all = len(rows.targets)
    rows = _draw(rows, request)
    n_answers = int(rows.example.max()) + 1
    announce(f"run       {path}, {config.n_qubits} qubits x {config.n_layers} layers")
    announce(f"device    {_description(request)}")
    announce(f"tokens    {len(rows.targets)} of {n_all} held out, from {n_answers} answers")
    announce(f"          {2 * len(rows.targets)} circuits, as two batches\n")
    z = _exact_expectations(student.head, rows)
    losses = _losses(student.head, rows, z[-1])
    findings = {
        name: _findings(student.head, rows, z, losses, circuit) for name, circuit in sources.items()
    }
    exact = dict(zip(PATHWAYS, losses.mean(0).tolist(), strict=True))
    expected_rms = ((1 - z[0].double().square()) / request.shots).mean().sqrt().item()
    announce("\n".join(_table(findings, expected_rms, exact, n_answers)))
    content = asdict(request) | {"tokens": len(rows.targets), "answers": n_answers}
    content |= {"exact_loss": exact, "expected_rms_of_circuit_1": expected_rms}
    content |= {name.replace(" ", "_"): asdict(found) for name, found in findings.items()}
    _keep(path / f"device-{request.device}.json", content)


def _student_config(path: Path) -> HybridConfig:
    try:
        return HybridConfig.from_pretrained(path / "student")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / 'student'}: cannot be read as a student") from error


def _load_student(path: Path, config: HybridConfig) -> HybridForCausalLM:
    try:
        return HybridForCausalLM.from_pretrained(path / "student", config=config).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path / 'student'}: cannot be read as a student") from error


def _open(config: HybridConfig, request: DeviceRequest) -> dict[str, DeviceCircuit]:
    """The device, and the same circuits with the noise of the shots alone."""
    ansatz = Ansatz(config.n_qubits, config.n_layers, config.entangler, config.reupload)
    try:
        device = DeviceCircuit(
            ansatz,
            request.device,
            shots=request.shots,
            seed=request.seed,
            depolarising=request.depolarising,
            **request.options,
        )
        # Another seed: default.qubit as the device would else be compared with itself.
        seed = None if request.seed is None else request.seed + 1
        ideal = DeviceCircuit(ansatz, "default.qubit", shots=request.shots, seed=seed)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    return {"device": device, "shots alone": ideal}


def _draw(rows: AnswerRows, request: DeviceRequest) -> AnswerRows:
    """A random subset of the rows, in order, with their answers renumbered from 0."""
    generator = torch.Generator().manual_seed(request.seed or 0)
    kept = torch.randperm(len(rows.targets), generator=generator)[: request.tokens].sort().values
    answers = rows.example[kept].unique(return_inverse=True)[1]
    return AnswerRows(rows.hidden[kept], rows.targets[kept], answers)


def _exact_expectations(head: HybridHead, rows: AnswerRows) -> list[Tensor]:
    quantum = head.quantum
    first = quantum.circuit1(quantum.angles(head.classical.norm(rows.hidden)))
    return [first, quantum.circuit2(ANGLE_SCALE * first)]


def _measured_expectations(
    head: HybridHead, rows: AnswerRows, circuit: DeviceCircuit
) -> list[Tensor]:
    quantum = head.quantum
    angles = quantum.angles(head.classical.norm(rows.hidden))
    try:
        first = circuit.expectations(angles, quantum.circuit1.weights)
        return [first, circuit.expectations(ANGLE_SCALE * first, quantum.circuit2.weights)]
    except ValueError as error:
        raise UsageError(str(error)) from error


def _losses(
    head: HybridHead, rows: AnswerRows, z: Float[Tensor, "rows qubits"]
) -> Float[Tensor, "rows pathways"]:
    """Each token's quantum and hybrid loss, in nats."""
    losses = []
    for chunk in torch.arange(len(z)).split(ROWS_PER_CHUNK):
        quantum = head.quantum.up(z[chunk])
        hybrid = head.mix(head.classical(rows.hidden[chunk]), quantum)
        pair = [row_losses(logits, rows.targets[chunk]).double() for logits in (quantum, hybrid)]
        losses.append(torch.stack(pair, -1))
    return torch.cat(losses)


def _findings(
    head: HybridHead,
    rows: AnswerRows,
    z: list[Tensor],
    losses: Float[Tensor, "rows pathways"],
    circuit: DeviceCircuit,
) -> Findings:
    measured = _measured_expectations(head, rows, circuit)
    errors = [(got - wanted).double() for got, wanted in zip(measured, z, strict=True)]
    differences = _losses(head, rows, measured[-1]) - losses
    return Findings(
        {
            name: Deviation(error.square().mean().sqrt().item(), error.abs().max().item())
            for name, error in zip(CIRCUITS, errors, strict=True)
        },
        {
            name: loss_difference(column, rows.example)
            for name, column in zip(PATHWAYS, differences.unbind(-1), strict=True)
        },
    )


def loss_difference(values: Float[Tensor, " rows"], example: Tensor) -> LossDifference:
    """Mean over tokens with its 95 % interval over answers."""
    estimate = mean_over_units(values, example)
    return LossDifference(estimate.mean, estimate.half_width())


def _description(request: DeviceRequest) -> str:
    parts = [f"{request.device}, {request.shots} shots"]
    if request.depolarising:
        parts.append(f"depolarising {request.depolarising} after every gate")
    parts += [f"{key}={value}" for key, value in request.options.items()]
    return ", ".join(parts)


def _table(
    findings: Mapping[str, Findings],
    expected_rms: float,
    exact: Mapping[str, float],
    n_answers: int,
) -> list[str]:
    lines = [f"{'expectation values, measured - exact':38}{'rms':>10}{'largest':>10}"]
    for circuit in CIRCUITS:
        for source, found in findings.items():
            deviation = found.expectations[circuit]
            lines.append(f"  {circuit:12}{source:24}{deviation.rms:10.4f}{deviation.largest:10.4f}")
    lines.insert(3, f"  {CIRCUITS[0]:12}{'shots alone, expected':24}{expected_rms:10.4f}")
    lines += ["", f"{'loss, nats per token':38}{'exact':>10}{'measured - exact':>20}"]
    for pathway in PATHWAYS:
        for source, found in findings.items():
            loss = _interval(found.loss[pathway])
            lines.append(f"  {pathway:12}{source:24}{exact[pathway]:10.4f}    {loss}")
    how = (
        f"+-: 95 % interval, t({n_answers - 1}) clustered standard errors over {n_answers} answers"
    )
    return [*lines, "", how if n_answers > 1 else "no interval: one answer only", *_NOTES]


_NOTES = (
    "circuit 2 runs on what was measured of circuit 1",
    "shots alone: default.qubit without noise, the same shots, a draw of its own",
)


def _interval(loss: LossDifference) -> str:
    if loss.half_width is None:
        return f"{loss.mean:+.4f}"
    return f"{loss.mean:+.4f} +- {loss.half_width:.4f}"


def _keep(file: Path, content: Mapping[str, Any]) -> None:
    try:
        write_json(file, content)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
