"""A study as one HTML file and as CSV files."""

from quantum_hybrid.report.study_page.colors import ARM_COLORS
from quantum_hybrid.report.study_page.page import study_page, write_study_page
from quantum_hybrid.report.study_page.sentence import verdict_sentence
from quantum_hybrid.report.study_page.tables import write_study_tables

__all__ = [
    "ARM_COLORS",
    "study_page",
    "verdict_sentence",
    "write_study_page",
    "write_study_tables",
]
