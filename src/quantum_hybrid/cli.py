"""The command line: `quantum-hybrid <verb>` and `python atropos.py <verb>` are the same program.

Flags are read off the dataclasses in `config` (`--env.*`, `--openai.*`), with the precedence flag,
`--config` YAML file, default. Everything a user can get wrong is checked here, before torch is
imported, and answered with one line and exit status 2.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import sys
import textwrap
import typing
from collections.abc import Sequence
from dataclasses import Field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from quantum_hybrid.config import KEY_VARIABLE, RunConfig
from quantum_hybrid.config_file import SECTIONS, read_config_file, suggestion, value_type
from quantum_hybrid.errors import QuantumHybridError, UsageError
from quantum_hybrid.processes.launch import Launch
from quantum_hybrid.report.groups_page import groups_page_path
from quantum_hybrid.report.summary import summary_lines

if TYPE_CHECKING:
    from quantum_hybrid.run.directory import RunDirectory


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        launch = Launch.of(os.environ)
        return _follow(launch, arguments) if launch.rank > 0 else _dispatch(arguments, launch)
    except QuantumHybridError as error:
        if error.resumable_run is not None:
            launcher = "torchrun ..." if "WORLD_SIZE" in os.environ else "python"
            command = f"{launcher} atropos.py process --env.run_dir {error.resumable_run}"
            print(f"Go on with: {command}", flush=True)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _refuse_keys(arguments: list[str]) -> None:
    """Everybody on a machine can read a command line, and a run writes its own down."""
    keys = [value for name, value in os.environ.items() if name.startswith(KEY_VARIABLE)]
    shown = any(len(key) >= 12 and key in argument for key in keys for argument in arguments)
    if shown or any(argument.startswith("--openai.api_key") for argument in arguments):
        raise UsageError(
            "an API key stands in the command line: keys are read from the environment only, set "
            f"{KEY_VARIABLE}"
        )


def _follow(launch: Launch, arguments: list[str]) -> int:
    """Be one of several processes and not the first, whose command line it is.

    It is the first one that says what is wrong with that line; its launcher ends the others then.
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
    if arguments[0] == "serve":
        return _serve(parser, arguments[1:])
    if arguments[0] == "evaluate":
        return _evaluate(arguments[1:])
    namespace = parser.parse_args(arguments)
    if namespace.verb == "setup":
        from quantum_hybrid.backbone import prepare_embedded

        prepare_embedded(announce=print)
        print("compiling the kernels: half a minute, once")
        from quantum_hybrid.circuit import native
        from quantum_hybrid.training.head_pass import compiled_sweeps

        native.compile_kernel()
        compiled_sweeps.compile_kernel()
        return 0
    if namespace.verb == "device":
        return _device(namespace)
    if namespace.verb == "cache":
        return _cache(namespace)
    return _process(_given(namespace), launch)


def _serve(parser: _Parser, arguments: list[str]) -> int:
    """What a run does not know of is Atropos's."""
    from quantum_hybrid.run.directory import RunDirectory, refuse_finished, resolve

    namespace, rest = parser.parse_known_args(["process", *arguments])
    given = _given(namespace)
    plan = resolve(given["env"], given["openai"])
    refuse_finished(plan)
    _check_circuit(plan.config)
    from quantum_hybrid.atropos.environment import QuantumHybridEnvConfig, serve_run

    names = [name.removeprefix("--env.") for name in rest[::2]]
    config = QuantumHybridEnvConfig(**dict(zip(names, rest[1::2], strict=True)))
    with RunDirectory.open(plan) as run:
        serve_run(run, config)
        print("\n".join(where_things_are(run)))
    return 0


def _evaluate(arguments: list[str]) -> int:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env.run_dir", dest="run_dir", required=True)
    parser.add_argument("--env.data_dir_to_save_evals", dest="results", type=Path)
    known = parser.parse_args(arguments)
    from quantum_hybrid.run.evaluation import evaluate_run

    evaluate_run(known.run_dir, print, known.results)
    return 0


def where_things_are(run: RunDirectory) -> list[str]:
    """Where the run's artefacts lie, and what to do with them next."""
    path = run.path
    return [
        "",
        f"student   {path / 'student'}  (HybridForCausalLM.from_pretrained)",
        f"curves    {path / 'curves.png'}",
        f"answers   {groups_page_path(run.groups_path)}",
        f"numbers   {path / 'metrics.jsonl'}; tensorboard --logdir {path / 'tensorboard'}",
        "next      another seed: python atropos.py process --env.seed 1",
        "          your own teacher: README.md, 'A real teacher'",
    ]


def _device(namespace: argparse.Namespace) -> int:
    from quantum_hybrid.run.directory import finished_run

    path = finished_run(namespace.run)
    options = dict(namespace.option)
    from quantum_hybrid.run.device_check import DeviceRequest, check_device

    request = DeviceRequest(
        namespace.device,
        namespace.shots,
        namespace.tokens,
        namespace.seed,
        namespace.depolarising,
        options,
    )
    check_device(path, request, print)
    return 0


def _cache(namespace: argparse.Namespace) -> int:
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
                lines = inventory.export_answers(cache, Path(namespace.file).expanduser())
            case _:
                lines = inventory.collect_garbage(cache, only_tell=namespace.dry_run)
    print("\n".join(lines))
    return 0


def _check_circuit(config: RunConfig) -> None:
    """Whether the engine can run the circuit: the layer itself says so when it is made."""
    from quantum_hybrid.circuit import QuantumLayer

    try:
        QuantumLayer(
            config.n_qubits, config.n_layers, config.entangler, config.reupload, config.engine
        )
    except ValueError as error:
        raise UsageError(f"--env.engine {config.engine}: {error}") from error


def _process(given: dict[str, dict[str, Any]], launch: Launch) -> int:
    """Check all that can be checked at once, claim the run directory, then load what is heavy."""
    from quantum_hybrid.model_files import find_base_model
    from quantum_hybrid.run.directory import RunDirectory, resolve
    from quantum_hybrid.text.prompts import held_out_prompts

    plan = resolve(given["env"], given["openai"])
    config = plan.config
    find_base_model(config.base_model_name)
    held_out_prompts(config.eval_split, config.eval_prompts, config.seed)
    from quantum_hybrid.teacher import choose_teacher

    choose_teacher(plan.server, os.environ, config.max_token_length)
    _check_circuit(config)
    if config.group_size < launch.size:
        raise UsageError(
            f"--env.group_size {config.group_size}: must be at least the number of processes, "
            f"which is {launch.size}"
        )
    with RunDirectory.open(plan) as run:
        if run.is_complete:
            lines = [f"{run.path} is complete; nothing was done.", ""]
            print("\n".join([*lines, *summary_lines(run.read_summary())]))
        else:
            from quantum_hybrid.processes.ranks import Ranks
            from quantum_hybrid.run.loop import run_process

            with Ranks.joined(launch) as ranks:
                run_process(run, ranks)
        print("\n".join(where_things_are(run)))
    return 0


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line that names the flag, with a suggestion for typos."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:  # noqa: ANN001
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].split("=")[0]
            raise UsageError(f"unknown argument {flag}{suggestion(flag)}")
        return parsed


def _parser() -> _Parser:
    parser = _Parser(
        prog="quantum-hybrid",
        description="Distil a teacher into a hybrid quantum-classical language model.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb", parser_class=_Parser)
    process = verbs.add_parser(
        "process",
        allow_abbrev=False,
        help="teacher, student, training, held-out evaluation: the main job",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    process.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="YAML file with the sections env: and openai:; flags override it",
    )
    for section, cls in SECTIONS.items():
        group = process.add_argument_group(f"--{section}.*", inspect.getdoc(cls))
        documentation = _field_docstrings(cls)
        for field in fields(cls):
            _add_flag(group, section, cls, field, documentation[field.name])
    _add_device_verb(verbs)
    _add_cache_verb(verbs)
    verbs.add_parser(
        "setup", help="convert the embedded model and compile the circuit kernel, once"
    )
    verbs.add_parser("serve", help="serve groups to an Atropos trainer (Atropos's own flags)")
    verbs.add_parser("evaluate", help="evaluate a trained run (Atropos's own flags)")
    return parser


def _add_device_verb(verbs: Any) -> None:
    device = verbs.add_parser(
        "device",
        allow_abbrev=False,
        help="the circuits of a finished run on a PennyLane device, against the exact ones",
    )
    device.add_argument("--run", required=True, metavar="RUN", help="directory of a finished run")
    device.add_argument(
        "--device", required=True, metavar="NAME", help="PennyLane's name of it, as qiskit.aer"
    )
    device.add_argument(
        "--shots", type=_count, default=4096, help="measurements of each circuit [4096]"
    )
    device.add_argument(
        "--tokens", type=_count, default=128, help="held-out answer tokens, at most [128]"
    )
    device.add_argument("--seed", type=int, help="of the tokens, and of the shots")
    device.add_argument(
        "--depolarising",
        type=float,
        default=0.0,
        metavar="P",
        help="noise after every gate, for default.mixed [0]",
    )
    device.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the device, any number of times; credentials stay in the environment",
    )


def _add_cache_verb(verbs: Any) -> None:
    cache = verbs.add_parser(
        "cache", allow_abbrev=False, help="the teacher's answers that are kept"
    )
    actions = cache.add_subparsers(
        dest="action", required=True, metavar="action", parser_class=_Parser
    )
    actions.add_parser("ls", help="how many there are, by server and model")
    actions.add_parser("verify", help="check each against its checksum; status 1 if one is damaged")
    export = actions.add_parser("export", help="write them with their requests as lines of JSON")
    export.add_argument("file", metavar="FILE", help="a new file")
    gc = actions.add_parser("gc", help="remove what no run can use: damaged, outdated, empty ones")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be a whole number from 1")
    return int(text)


def _option(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as Python writes a number, a list, True; else a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be KEY=VALUE")
    if any(word in key.lower() for word in ("key", "token", "secret", "password")):
        raise argparse.ArgumentTypeError(f"{key}: credentials are read from the environment only")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _add_flag(group: Any, section: str, cls: type, field: Field, documentation: str) -> None:
    kind, choices = value_type(cls, field.name)
    default = "" if field.default is None else f" [{field.default}]"
    group.add_argument(
        f"--{section}.{field.name}",
        dest=f"{section}.{field.name}",
        default=argparse.SUPPRESS,
        type=_boolean if kind is bool else kind,
        choices=choices,
        metavar=None if choices else kind.__name__.upper(),
        help=(documentation + default).replace("%", "%%"),
    )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be true or false")
    return values[text.lower()]


def _field_docstrings(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    return {
        node.target.id: " ".join(str(below.value.value).split())
        for node, below in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def _given(namespace: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the user set, by section: flags over the YAML file; defaults are not filled in."""
    values = vars(namespace)
    given: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    if "config" in values:
        given = read_config_file(values["config"])
    for name, value in values.items():
        section, dot, key = name.partition(".")
        if dot:
            given[section][key] = value
    return given
