"""What a run measured, for people; reads rows of numbers and imports no torch."""

from __future__ import annotations

from quantum_hybrid.report.curves import draw_curves
from quantum_hybrid.report.summary import summarise, summary_lines, teacher_lines

__all__ = ["draw_curves", "summarise", "summary_lines", "teacher_lines"]
