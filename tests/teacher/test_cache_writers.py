"""Several processes write to one cache, and some are killed: invariants.

Each process executes a plan of puts and gets on a few shared keys and prints the results. For any
interleaving and any place of death:

- every process and the file have the same answer for a key;
- acknowledged answers are in the file, and the file has only answers that a process stored;
- the file is sound, and no row is damaged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.teacher import AnswerCache, AnswerRequest
from quantum_hybrid.teacher.inventory import stored_rows
from quantum_hybrid.text.records import Sampling

WORKER = """
import json, sys
from pathlib import Path
from quantum_hybrid.text.records import Answer, Sampling
from quantum_hybrid.teacher.cache import AnswerCache
from quantum_hybrid.teacher.request import AnswerRequest
path, name, plan = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
def request(key):
    return AnswerRequest("s", "m", f"prompt {key}", Sampling(), 0)
print(json.dumps("ready"), flush=True)
sys.stdin.readline()
cache = AnswerCache(path)
for number, (action, keys) in enumerate(plan):
    if action == "put":
        text = f"{name}.{number} " + name * 3000
        answers = [(request(key), Answer("p", 0, f"{key} {text}", "stop", "m")) for key in keys]
        found = [answer.text for answer in cache.put(answers)]
    else:
        found = [answer and answer.text for answer in map(cache.get, map(request, keys))]
    found = [text and text.rpartition(" ")[0] for text in found]  # short: a pipe must hold it all
    print(json.dumps([action, dict(zip(map(str, keys), found))]), flush=True)
"""

KEYS = 30
PLANS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "get"]),
        st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=6, unique=True),
    ),
    min_size=10,
    max_size=40,
)
WRITERS = st.lists(st.tuples(PLANS, st.none() | st.integers(0, 20)), min_size=2, max_size=4)
"""A plan for each process, and after how many of its lines it is killed, if at all."""


def start(path: Path, name: str, plan: list[Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), name, json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def read_until(process: subprocess.Popen[str], kill_after: int | None) -> list[Any]:
    """The process's output; it is killed after a number of lines, probably within a put."""
    assert process.stdout is not None
    lines: list[str] = []
    if kill_after is not None:
        lines = [process.stdout.readline() for _ in range(kill_after)]
        process.kill()
    lines += process.stdout.readlines()
    process.wait()
    assert kill_after is not None or process.returncode == 0
    return [json.loads(line) for line in lines if line.endswith("\n")]


@settings(max_examples=12, deadline=None)  # each starts up to four processes
@given(writers=WRITERS)
def test_whatever_happens_the_store_holds_one_answer_for_each_key(writers) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "answers.sqlite"
        processes = [
            stack.enter_context(start(path, "abcd"[i], plan)) for i, (plan, _) in enumerate(writers)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == '"ready"\n'
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [
            read_until(process, kill_after)
            for process, (_, kill_after) in zip(processes, writers, strict=True)
        ]
        check(path, said, [plan for plan, _ in writers])


def check(path: Path, said: list[list[Any]], plans: list[list[Any]]) -> None:
    told: dict[int, set[str]] = defaultdict(set)
    stored: set[int] = set()
    for lines in said:
        for action, found in lines:
            for key, text in found.items():
                if text is not None:
                    told[int(key)].add(text)
                stored |= {int(key)} if action == "put" else set()
    meant = {
        f"{key} {name}.{number}"
        for name, plan in zip("abcd", plans, strict=False)
        for number, (action, keys) in enumerate(plan)
        if action == "put"
        for key in keys
    }
    with AnswerCache(path) as cache:
        assert cache.integrity_faults() == []
        assert all(row.answer is not None for row in stored_rows(cache))
        for key in range(KEYS):
            answer = cache.get(AnswerRequest("s", "m", f"prompt {key}", Sampling(), 0))
            assert answer is not None or key not in stored
            text = answer.text.rpartition(" ")[0] if answer else None
            assert told[key] <= {text}
            assert text is None or (text in meant and text.startswith(f"{key} "))
