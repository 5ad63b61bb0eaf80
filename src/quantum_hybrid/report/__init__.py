"""What a run measured, drawn for people; reads rows of numbers and imports no torch."""

from __future__ import annotations

from quantum_hybrid.report.curves import draw_curves

__all__ = ["draw_curves"]
