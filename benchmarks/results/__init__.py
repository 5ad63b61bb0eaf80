"""Benchmark runs that were kept, a JSON file each; ``python -m benchmarks.results [FILE ...]``
prints them."""

from benchmarks.results.record import FOLDER, REQUIRED, Record, RecordError, lines, read

__all__ = ["FOLDER", "REQUIRED", "Record", "RecordError", "lines", "read"]
