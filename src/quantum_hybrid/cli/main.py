"""The entry point of `quantum-hybrid <verb>` and `python atropos.py <verb>`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from quantum_hybrid.cli import (
    cache,
    device,
    evaluate,
    process,
    prompts,
    scaling,
    serve,
    setup,
    study,
)
from quantum_hybrid.cli.command import command
from quantum_hybrid.cli.flags import Parser, in_flags
from quantum_hybrid.compiled.layout import named
from quantum_hybrid.errors import OutputError, QuantumHybridError, ReaderGone, UsageError
from quantum_hybrid.keys import WHERE_KEYS_BELONG, hold_a_key
from quantum_hybrid.output import complain, drop_unwritten, say
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.shown import shown_row

VERBS = {
    "process": process,
    "study": study,
    "scaling": scaling,
    "prompts": prompts,
    "device": device,
    "cache": cache,
    "setup": setup,
    "serve": serve,
    "evaluate": evaluate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        drop_unwritten()


def _run(arguments: list[str]) -> int:
    launch = Launch()
    try:
        launch = Launch.of(os.environ)
        return _follow(launch, arguments) if launch.rank > 0 else _dispatch(arguments, launch)
    except QuantumHybridError as error:
        run = error.resumable_run
        again = None if run is None else command(launch.size, *_go_on(arguments, run))
        _report(error, again)
        return error.exit_status
    except KeyboardInterrupt:
        complain("error: interrupted")
        return 130


def _report(error: QuantumHybridError, again: str | None) -> None:
    """Print the error, and `again`, the command that resumes an unfinished run."""
    line = f"error: {in_flags(str(error), error.quoted)}"
    if again is not None:
        try:
            say(f"Go on with: {again}")
        except OutputError:
            line += f"; go on with: {again}"
    elif isinstance(error, ReaderGone):
        return  # By convention: whoever closes the pipe wants no more.
    complain(shown_row(line))


def _go_on(arguments: list[str], run: Path) -> list[str]:
    """The arguments that resume a run. It has stored its settings, but not Atropos's."""
    if arguments[0] in ("study", "scaling"):
        return [arguments[0], "--study-dir", str(run)]
    if arguments[0] != "serve":
        return ["process", "--env.run_dir", str(run)]
    api = "--env.rollout_server_url"
    pairs = pairwise(part for argument in arguments for part in argument.split("=", 1))
    address = next((value for flag, value in pairs if flag == api), None)
    return ["serve", "--env.run_dir", str(run), *([api, address] if address else [])]


def _refuse_keys(arguments: list[str]) -> None:
    """Raise `UsageError` for an API key among the arguments.

    Every user of a machine can read a process's arguments, and a run records its own.
    """
    named = any(argument.startswith("--openai.api_key") for argument in arguments)
    if named or hold_a_key(arguments):
        raise UsageError(f"the command line contains an API key: {WHERE_KEYS_BELONG}")


def _follow(launch: Launch, arguments: list[str]) -> int:
    """Run as one of several processes, other than the first.

    The first process checks the command line. If it is wrong, the launcher ends the others.
    """
    if {"-h", "--help"} & set(arguments):
        return 0
    from quantum_hybrid.processes.ranks import Ranks
    from quantum_hybrid.training import follow

    with Ranks.joined(launch) as ranks:
        follow(ranks)
    return 0


def _dispatch(arguments: list[str], launch: Launch) -> int:
    _refuse_keys(arguments)
    if launch.size > 1 and arguments and arguments[0] != "process":
        raise UsageError(f"{arguments[0]}: takes one process; only process takes more")
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 2
    namespace = parser.parse_args(arguments)
    _check_layout()
    return VERBS[namespace.verb].run(namespace, launch)


def _check_layout() -> None:
    """Raise `UsageError` if the environment names a row layout that does not exist."""
    try:
        named(os.environ)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _parser() -> Parser:
    parser = Parser(
        prog="quantum-hybrid",
        description="Distil a teacher into a hybrid quantum-classical language model.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb", parser_class=Parser)
    for name, verb in VERBS.items():
        verb.add_flags(verbs.add_parser(name, allow_abbrev=False, help=verb.HELP))
    return parser
