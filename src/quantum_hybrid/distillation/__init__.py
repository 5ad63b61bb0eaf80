"""What a teacher gives beyond its text: log-probabilities, compared by token or by rank."""

from quantum_hybrid.distillation.top_k import TopK, top_k_kl
from quantum_hybrid.distillation.uld import SpanTopK, span_distances

__all__ = ["SpanTopK", "TopK", "span_distances", "top_k_kl"]
