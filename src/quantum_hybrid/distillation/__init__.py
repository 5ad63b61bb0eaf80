"""Methods of distillation: from the teacher's text, and from its log-probabilities."""

from quantum_hybrid.distillation.choice import method_for
from quantum_hybrid.distillation.method import Asked, Method, Term
from quantum_hybrid.distillation.text_alone import NO_TERM, TextAlone
from quantum_hybrid.distillation.top_k import ByToken, DivergenceTerm, TopK, top_k_kl
from quantum_hybrid.distillation.uld import ByRank, DistanceTerm, SpanTopK, span_distances

__all__ = [
    "NO_TERM",
    "Asked",
    "ByRank",
    "ByToken",
    "DistanceTerm",
    "DivergenceTerm",
    "Method",
    "SpanTopK",
    "Term",
    "TextAlone",
    "TopK",
    "method_for",
    "span_distances",
    "top_k_kl",
]
