"""Command-line flags, generated from the fields of `config`.

    --env.seed 1        sets a field of `RunConfig`
    --openai.timeout 9  sets a field of `ServerConfig`

A flag overrides the same entry of the `--config` YAML file, which overrides the field's default.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from quantum_hybrid.cli.atropos_flags import ATROPOS
from quantum_hybrid.config import KINDS, RunConfig, ServerConfig, Settings
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import WHERE_KEYS_BELONG
from quantum_hybrid.output import say

SECTIONS: dict[str, type[Settings]] = {"env": RunConfig, "openai": ServerConfig}
OURS = [f"--{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
_FLAG_OF_FIELD = {
    flag.removeprefix("--").rpartition(".")[2]: flag
    for flag in ("--run", *reversed(ATROPOS), *OURS)
}
"""Field name -> flag. If two flags share a field name, the later one in this order wins."""


def section_and_name(flag: str) -> tuple[str, str]:
    """Split `--env.seed` into `env` and `seed`. The section of `--slurm` is the empty string."""
    section, _, name = flag.removeprefix("--").rpartition(".")
    return section, name


def in_flags(message: str, quoted: Sequence[str] = ()) -> str:
    """Replace the fields that a library's message names in backticks by their flags.

    Text in `quoted`, which somebody else wrote, stays unchanged.
    """

    def flag(found: re.Match[str]) -> str:
        return _FLAG_OF_FIELD.get(found["field"] or "", found[0])

    foreign = "|".join(re.escape(words) for words in quoted if words)
    return re.sub(f"{foreign}{'|' if foreign else ''}`(?P<field>\\w+)`", flag, message)


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`: one line with the flag and, for a typo, a
    suggestion."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            raise UsageError(f"unknown argument {flag}{suggestion(flag, self._flags())}")
        return parsed, unknown

    def print_help(self, file: Any = None) -> None:
        """Print the help on standard output. argparse's own method ignores a failure to write."""
        say(self.format_help().removesuffix("\n"))

    def _flags(self) -> list[str]:
        return list(self._option_string_actions)


def suggestion(flag: str, known: Collection[str]) -> str:
    """The rest of the message about an unknown flag: the closest known flag, or a hint."""
    if flag.startswith("--openai.") and "key" in flag:
        return f": {WHERE_KEYS_BELONG}"
    if flag in ATROPOS:
        return ": it is Atropos's, for serve and evaluate"
    names = {section_and_name(other)[1]: other for other in (*ATROPOS, *known)}
    close = difflib.get_close_matches(section_and_name(flag)[1], names, n=1)
    if not close:
        return ": see --help"
    other = names[close[0]]
    return (
        f": did you mean {other}{'?' if other in known else ', which is for serve and evaluate?'}"
    )


def add_settings_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and a flag for each field of each section."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="YAML file with the sections env: and openai:; flags override it",
    )
    for section, model in SECTIONS.items():
        group = parser.add_argument_group(f"--{section}.*", inspect.getdoc(model))
        for name, declared in model.model_fields.items():
            kind = _type(declared.annotation)
            choices = get_args(kind) if get_origin(kind) is Literal else None
            default = "" if declared.default is None else f" [{declared.default}]"
            group.add_argument(
                f"--{section}.{name}",
                default=argparse.SUPPRESS,
                type=str if choices else _reader(kind),
                choices=choices,
                metavar=None if choices else kind.__name__.upper(),
                help=f"{declared.description}{default}".replace("%", "%%"),
            )


def add_atropos_flags(parser: argparse.ArgumentParser) -> None:
    """Add Atropos's own flags. Atropos parses their values."""
    group = parser.add_argument_group("Atropos's own", "documented by Atropos")
    for flag in ATROPOS:
        group.add_argument(flag, default=argparse.SUPPRESS, metavar="VALUE")


def _type(annotation: Any) -> Any:
    """The plain type: `X` of `X | None` and of `Annotated[X, ...]`."""
    plain = next((kind for kind in get_args(annotation) if kind is not NoneType), annotation)
    if get_origin(annotation) is Literal:
        return annotation
    return get_args(plain)[0] if get_origin(plain) is Annotated else plain


def _reader(kind: type) -> Callable[[str], Any]:
    """The function that reads a flag's value."""
    if kind is bool:
        return _boolean

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            allowed = KINDS[kind.__name__]
            raise argparse.ArgumentTypeError(
                f"invalid value {text!r}: must be {allowed}"
            ) from error

    return read


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be true or false")
    return values[text.lower()]
