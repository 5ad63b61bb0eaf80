"""The hybrid student: a pruned backbone with a classical and a quantum next-token head."""

from quantum_hybrid.student.batch import AnswerRows, answer_rows, answer_targets
from quantum_hybrid.student.head import ClassicalHead, HybridHead, HybridLogits, QuantumHead
from quantum_hybrid.student.initialisation import Calibration, initialise_head
from quantum_hybrid.student.model import HybridConfig, HybridForCausalLM

__all__ = [
    "AnswerRows",
    "Calibration",
    "ClassicalHead",
    "HybridConfig",
    "HybridForCausalLM",
    "HybridHead",
    "HybridLogits",
    "QuantumHead",
    "answer_rows",
    "answer_targets",
    "initialise_head",
]
