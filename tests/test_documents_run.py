"""Every command and every Python block of the documentation runs.

A page's Python blocks run in order in one namespace. Its shell lines run with small settings and a
teacher on loopback; `runs/NAME` is a finished run. A line that needs something a test cannot have
is checked by the program's own parser and skipped with a reason.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from documents import PAGES, ROOT, Block, ShellLine, blocks, name_of, shell_lines
from forked_runs import ForkServer, Order
from loopback_teacher import LoopbackTeacher
from processes import free_port, launch
from quantum_hybrid.cli.given import Given
from quantum_hybrid.cli.main import _parser, main
from quantum_hybrid.run.plan import resolve
from quantum_hybrid.text import built_in_prompts

STUDENT = {
    "env.group_size": 2,
    "env.max_token_length": 8,
    "env.eval_prompts": 2,
    "env.lora_rank": 4,
    "env.n_qubits": 3,
    "env.n_layers": 2,
    "env.use_wandb": "false",
}
"""Of every run, unless its line says otherwise."""
FEWER = {"device": ["--tokens", "4"]}
"""What makes another verb small."""
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LINES = [line for page in PAGES for line in shell_lines(page)]


class DocumentsTeacher(LoopbackTeacher):
    """A teacher that sends log-probabilities of a student's own tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        super().__init__()

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        reply = super()._reply(request)
        k = request.get("top_logprobs", 0)
        for choice in reply["choices"] if k else ():
            ids = self._tokenizer.encode(choice["message"]["content"], add_special_tokens=False)
            choice["logprobs"] = {"content": [self._row(token, k) for token in ids]}
        return reply

    def _row(self, token: int, k: int) -> dict[str, Any]:
        """The token itself first, then any others, each half as likely as the one before."""
        listed = [(token + i) % len(self._tokenizer) for i in range(k)]
        top = [self._entry(one, (i + 1) * -0.7) for i, one in enumerate(listed)]
        return top[0] | {"top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self._tokenizer.decode([token]), "id": token, "logprob": logprob}


@dataclass(frozen=True)
class Workplace:
    """A folder in which the documentation's commands run."""

    folder: Path
    base_model: Path
    teacher: LoopbackTeacher
    forks: ForkServer

    def run(self, arguments: list[str], name: str, size: int = 1) -> str:
        """Output of `process`, with small settings unless it resumes."""
        resumes = "--env.run_dir" in arguments
        given = [
            *arguments[:1],
            *_flags(STUDENT),
            *arguments[1:],
            *_flags(self._always(name, arguments)),
        ]
        port, pids = free_port(), []
        for rank in range(size):
            output = self.folder / f"{name}.{rank}.out"
            told = launch(rank, size, port) if size > 1 else {}
            cache = {"QUANTUM_HYBRID_CACHE": os.environ["QUANTUM_HYBRID_CACHE"]}
            order = Order(arguments if resumes else given, cache | told, str(output))
            pids.append(self.forks.start(order))
        statuses = [self.forks.wait(pid) for pid in pids]
        said = (self.folder / f"{name}.0.out").read_text(encoding="utf-8")
        assert statuses == [0] * size, said
        return said

    def _always(self, name: str, arguments: list[str]) -> dict[str, Any]:
        """Settings of every run here: short, on the teacher on loopback, without the hub."""
        always = {
            "env.total_steps": 1,
            "env.base_model_name": self.base_model,
            "env.run_dir": f"runs/{name}",
            "openai.base_url": self.teacher.url,
            "openai.model_name": "m",
        }
        return always | ({"env.drop_layers": "1-2"} if "--env.drop_layers" in arguments else {})


def _flags(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def workplace(small_llama, tmp_path_factory) -> Iterator[Workplace]:
    """The folder with a finished run `runs/NAME` and every file that a page names."""
    folder = tmp_path_factory.mktemp("workplace")
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.setenv("QUANTUM_HYBRID_CACHE", str(folder / "cache"))
        tokenizer = AutoTokenizer.from_pretrained(small_llama)
        teacher = stack.enter_context(contextlib.closing(DocumentsTeacher(tokenizer)))
        forks = stack.enter_context(contextlib.closing(ForkServer(small_llama)))
        for block in (block for page in PAGES for block in blocks(page) if block.file):
            (folder / str(block.file)).write_text(block.text, encoding="utf-8")
        texts = [prompt.text for prompt in built_in_prompts().prompts]
        (folder / "my-prompts.txt").write_text("\n".join(texts), encoding="utf-8")
        place = Workplace(folder, small_llama, teacher, forks)
        place.run(["process"], "NAME")
        yield place


# --- Python ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, workplace) -> None:
    namespace: dict[str, Any] = {"__name__": "a_page"}
    for block in blocks(page, "python"):
        for code, said in _statements(block, workplace.teacher.url):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            if said is not None:
                matches = doctest.OutputChecker().check_output
                got = printed.getvalue()
                assert matches(f"{said}\n", got, doctest.ELLIPSIS), f"{name_of(page)}: {got}"


def _statements(block: Block, url: str) -> Iterator[tuple[Any, str | None]]:
    """Each compiled statement of a block, with the output that its comment states."""
    text = block.text.replace("http://localhost:8000/v1", url)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {t.start[0]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT}
    for node in ast.parse(text).body:
        prints = isinstance(node, ast.Expr) and ast.unparse(node).startswith("print(")
        said = comments.get(node.end_lineno or 0) if prints else None
        ast.increment_lineno(node, block.line - 1)
        code = compile(ast.Module([node], []), str(block.page), "exec")
        yield code, said


# --- Commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_runs(line: ShellLine, workplace) -> None:
    words = shlex.split(line.text)
    name = f"{line.page.stem}-{line.line}"
    program = Path(words[0]).name
    if program == "python" and words[1] == "atropos.py":
        program, words = "quantum-hybrid", words[1:]
    assert program in HOW, f"{line}: no test knows how to run {words[0]}"
    HOW[program](workplace, words[1:], name)


def _quantum_hybrid(place: Workplace, words: list[str], name: str) -> None:
    if words[0] == "prompts":
        _write_prompts(words)
        return
    if words[0] == "serve":
        _understood(words)
        pytest.skip("an Atropos API must be there to serve to: given to the parser only")
    if words[0] in ("study", "scaling"):
        _parser().parse_args(words)
        pytest.skip("takes minutes: given to the parser only; tests/study runs studies")
    if words[0] != "process" or words[1:] == ["--help"]:
        assert _status(words + FEWER.get(words[0], [])) == 0
        return
    _understood(words)
    place.run(words, name)


def _write_prompts(words: list[str]) -> None:
    """Write one prompt, then put the built-in ones into the file: a run needs more than one."""
    assert _status([*words, "--count", "1"]) == 0
    Path(words[-1]).write_bytes(built_in_prompts().as_lines())


def _status(words: list[str]) -> int | str | None:
    try:
        return main(words)
    except SystemExit as end:  # --help
        return end.code


def _understood(words: list[str]) -> None:
    """Parse the unchanged line: every flag exists, every value is allowed."""
    given = Given.of(_parser().parse_args(words), with_atropos=words[0] == "serve")
    resolve(given.ours["env"], given.ours["openai"])


def _torchrun(place: Workplace, words: list[str], name: str) -> None:
    from torch.distributed.run import get_args_parser

    asked = get_args_parser().parse_args(words)
    assert asked.training_script == "atropos.py"
    if asked.node_rank > 0:
        pytest.skip("the second machine's part of the line above: given to the parser only")
    n_processes = int(asked.nnodes.split(":")[-1]) * int(asked.nproc_per_node)
    enough = ["--env.group_size", str(n_processes)]
    said = place.run([*asked.training_script_args, *enough], name, size=n_processes)
    assert f"processes {n_processes}" in said


def _make(place: Workplace, words: list[str], name: str) -> None:
    """Check that every target and variable exists, by a dry run of make."""
    for variable in (word.partition("=")[0] for word in words if "=" in word):
        assert f"$({variable})" in MAKEFILE, variable
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)


def _export(place: Workplace, words: list[str], name: str) -> None:
    """Check that the program reads the variable."""
    variable = re.sub(r"_\d+$", "", words[0].partition("=")[0])
    sources = (ROOT / "src").rglob("*.py")
    assert any(f'"{variable}"' in source.read_text(encoding="utf-8") for source in sources)


def _source(place: Workplace, words: list[str], name: str) -> None:
    assert words == [".venv/bin/activate"]


def _tensorboard(place: Workplace, words: list[str], name: str) -> None:
    command = [sys.executable, "-m", "tensorboard.main", *words, "--inspect"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "train/hybrid_loss" in done.stdout


def _run_api(place: Workplace, words: list[str], name: str) -> None:
    (script,) = entry_points(group="console_scripts", name="run-api")
    assert script.dist is not None
    assert script.dist.name == "atroposlib"
    pytest.skip("Atropos's own server: tests/atropos/test_serve.py starts it")


def _pip(place: Workplace, words: list[str], name: str) -> None:
    from pip._internal.commands import create_command

    options, _ = create_command(words[0]).parse_args(words[1:])
    for file in [*options.requirements, *options.constraints]:
        assert (ROOT / file).is_file()
    pytest.skip("would change the environment of the tests: given to pip's parser only")


def _python(place: Workplace, words: list[str], name: str) -> None:
    assert words[:3] == ["-m", "pytest", "-q"]
    assert (ROOT / words[3]).is_file()
    pytest.skip("one of these tests")


HOW: dict[str, Callable[[Workplace, list[str], str], None]] = {
    "quantum-hybrid": _quantum_hybrid,
    "torchrun": _torchrun,
    "make": _make,
    "export": _export,
    "source": _source,
    "tensorboard": _tensorboard,
    "run-api": _run_api,
    "pip": _pip,
    "python": _python,
}
"""Program -> what is done with a line that calls it."""
