"""Flags: read off the models in `config`, the one place where they are declared.

    --env.seed 1        a field of `RunConfig`
    --openai.timeout 9  a field of `ServerConfig`

Below a flag stands the same entry of the `--config` YAML file, below that the model's default.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
from collections.abc import Collection, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from quantum_hybrid.cli.atropos_flags import ATROPOS
from quantum_hybrid.config import RunConfig, ServerConfig, Settings
from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import WHERE_KEYS_BELONG

SECTIONS: dict[str, type[Settings]] = {"env": RunConfig, "openai": ServerConfig}
OURS = [f"--{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
_FLAG_OF_FIELD = {
    flag.removeprefix("--").rpartition(".")[2]: flag
    for flag in ("--run", *reversed(ATROPOS), *OURS)
}
"""Where two flags have one name, it is the last."""


def section_and_name(flag: str) -> tuple[str, str]:
    """`env` and `seed` of `--env.seed`; a flag without a section is in the section ``."""
    section, _, name = flag.removeprefix("--").rpartition(".")
    return section, name


def in_flags(message: str, quoted: Sequence[str] = ()) -> str:
    """A library's message with the flags in place of the fields that it names in backticks.

    What it quotes of others stays as it is.
    """

    def flag(found: re.Match[str]) -> str:
        return _FLAG_OF_FIELD.get(found["field"] or "", found[0])

    foreign = "|".join(re.escape(words) for words in quoted if words)
    return re.sub(f"{foreign}{'|' if foreign else ''}`(?P<field>\\w+)`", flag, message)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line that names the flag, with a suggestion for typos."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            raise UsageError(f"unknown argument {flag}{suggestion(flag, self._flags())}")
        return parsed, unknown

    def _flags(self) -> list[str]:
        return list(self._option_string_actions)


def suggestion(flag: str, known: Collection[str]) -> str:
    """What to say after a flag that is not among the known ones."""
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
    """`--config`, and a flag for each field of each section."""
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
                type=_boolean if kind is bool else str if choices else kind,
                choices=choices,
                metavar=None if choices else kind.__name__.upper(),
                help=f"{declared.description}{default}".replace("%", "%%"),
            )


def add_atropos_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of Atropos itself; it is Atropos that reads their values."""
    group = parser.add_argument_group("Atropos's own", "for what they mean see its documentation")
    for flag in ATROPOS:
        group.add_argument(flag, default=argparse.SUPPRESS, metavar="VALUE")


def _type(annotation: Any) -> Any:
    """`X` of `X | None`, and of what is annotated."""
    plain = next((kind for kind in get_args(annotation) if kind is not NoneType), annotation)
    if get_origin(annotation) is Literal:
        return annotation
    return get_args(plain)[0] if get_origin(plain) is Annotated else plain


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be true or false")
    return values[text.lower()]
