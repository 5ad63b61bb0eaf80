"""`cache`: the teacher's answers that are kept."""

from __future__ import annotations

import argparse

from quantum_hybrid.config import user_path
from quantum_hybrid.errors import UsageError
from quantum_hybrid.processes.launch import Launch

HELP = "the teacher's answers that are kept"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """An action, with what it needs."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="action", parser_class=type(parser)
    )
    actions.add_parser("ls", help="how many there are, by server and model")
    actions.add_parser("verify", help="check each against its checksum; status 1 if one is damaged")
    export = actions.add_parser("export", help="write them with their requests as lines of JSON")
    export.add_argument("file", metavar="FILE", help="a new file")
    gc = actions.add_parser("gc", help="remove what no run can use: damaged, outdated, empty ones")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Do it, and print what there is to say."""
    from quantum_hybrid.teacher import inventory
    from quantum_hybrid.teacher.cache import AnswerCache, answers_path

    path = answers_path()
    if not path.is_file():
        raise UsageError(f"{path}: no answers are kept there yet")
    with AnswerCache(path) as cache:
        match namespace.action:
            case "ls":
                lines = inventory.list_answers(cache)
            case "verify":
                lines = inventory.verify_answers(cache)
            case "export":
                file = user_path(namespace.file, f"FILE {namespace.file!r}")
                lines = inventory.export_answers(cache, file)
            case _:
                lines = inventory.collect_garbage(cache, only_tell=namespace.dry_run)
    print("\n".join(lines))
    return 0
