"""``python -m benchmarks.results [FILE ...]``: kept benchmark runs as tables; without FILE, all."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results import FOLDER, RecordError, lines, read


def main() -> None:
    """Print them, newest first. A file that is no record is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="benchmarks.results", allow_abbrev=False)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    files = parser.parse_args().files or sorted(FOLDER.glob("*.json"), reverse=True)
    try:
        records = [read(path) for path in files]
    except RecordError as error:
        parser.exit(2, f"error: {error}\n")
    print("\n\n".join("\n".join(lines(record)) for record in records))


if __name__ == "__main__":
    main()
