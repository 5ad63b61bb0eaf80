"""`cache`: list, check, export and clean up the teacher's cached answers."""

from __future__ import annotations

import argparse

from quantum_hybrid.errors import UsageError
from quantum_hybrid.output import say
from quantum_hybrid.paths import user_path
from quantum_hybrid.processes.launch import Launch

HELP = "list, check, export or clean up the teacher's cached answers"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One sub-command per action."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="action", parser_class=type(parser)
    )
    actions.add_parser("ls", help="count the answers of each server and model")
    actions.add_parser(
        "verify", help="check every answer against its checksum; exit status 1 if one is damaged"
    )
    export = actions.add_parser("export", help="write requests and answers as lines of JSON")
    export.add_argument("file", metavar="FILE", help="file to write; it must not exist yet")
    gc = actions.add_parser(
        "gc", help="remove answers that no run can use: damaged, outdated or empty"
    )
    gc.add_argument(
        "--dry-run", action="store_true", help="print what would be removed and remove nothing"
    )


def run(namespace: argparse.Namespace, launch: Launch) -> int:
    """Carry out the action and print its result. Raises `UsageError` if there is no cache."""
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
    say("\n".join(lines))
    return 0
