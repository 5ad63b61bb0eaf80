"""Whether waiting for the teacher costs anything: ``python -m benchmarks.overlap``.

A server on loopback takes two seconds for each answer, or for several to one prompt, however many
it is asked for at the same time. First the client alone takes 50 groups of 4 from it, with nothing
else to do. Then `process` is run twice, with an empty cache and with a warm one: what the first
takes longer is what waiting cost. Prints three lines and, as the last, one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from quantum_hybrid.paths import cache_directory
from quantum_hybrid.teacher import AnswerCache, GroupStream, TeacherClient, TeacherServer
from quantum_hybrid.text.prompts import built_in_prompts
from quantum_hybrid.text.records import Sampling

SECONDS_AN_ANSWER = 2.0
GROUPS, GROUP_SIZE = 50, 4
AT_ONCE = 8
"""Requests that may be under way, the default of `process`."""
HELD_OUT = 8
LARGEST_RATIO = 1.3
"""The goal: time by the least it can be."""
ROOT = Path(__file__).parents[1]


class _Teacher(BaseHTTPRequestHandler):
    """Words of the prompt in a random order, after a while."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "slow"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(SECONDS_AN_ANSWER)
        words = asked["messages"][-1]["content"].split()
        choices = []
        for index in range(asked["n"]):
            answer = " ".join(random.Random(asked["seed"] + index).choices(words, k=40))
            message = {"role": "assistant", "content": answer}
            choices.append({"index": index, "message": message, "finish_reason": "stop"})
        self._reply({"model": "slow", "choices": choices})

    def _reply(self, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    """Print the lines and the record."""
    with tempfile.TemporaryDirectory() as name, _teacher() as base_url:
        folder = Path(name)
        alone = asyncio.run(_client_alone(base_url, folder))
        cold, warm = _process(base_url, folder, "cold"), _process(base_url, folder, "warm")
    rounds = -(-GROUPS // AT_ONCE)
    ideal = rounds * SECONDS_AN_ANSWER
    held_out = -(-HELD_OUT // AT_ONCE) * SECONDS_AN_ANSWER
    least = max(warm, ideal + held_out)
    print(f"{GROUPS} groups of {GROUP_SIZE}, {AT_ONCE} requests at once: ideal {ideal:.1f} s")
    print(f"the client alone {alone:>10.1f} s{_verdict(alone / ideal)}")
    print(f"process, cold cache {cold:>7.1f} s, warm {warm:.1f} s{_verdict(cold / least)}")
    record = {
        "benchmark": "overlap",
        "machine": machine(),
        "seconds": {"ideal": ideal, "client": alone, "process_cold": cold, "process_warm": warm},
        "goal": {"at_most": LARGEST_RATIO, "client": alone / ideal, "process": cold / least},
    }
    print(json.dumps(record))


def _verdict(ratio: float) -> str:
    met = "met" if ratio <= LARGEST_RATIO else "missed"
    return f", {ratio:.2f} x the least it can be (at most {LARGEST_RATIO}: {met})"


@contextmanager
def _teacher() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Teacher)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _client_alone(base_url: str, folder: Path) -> float:
    server = TeacherServer(base_url, "slow", None, base_url, max_concurrent_requests=AT_ONCE)
    with AnswerCache(folder / "alone.sqlite") as cache:
        client = TeacherClient(server, cache)
        schedule = built_in_prompts().schedule(0, GROUP_SIZE)
        stream = GroupStream(client, schedule, GROUP_SIZE, Sampling(), ahead=2 * AT_ONCE)
        started = time.perf_counter()
        for wanted in range(GROUPS, 0, -1):
            await stream.next_group(wanted)
        seconds = time.perf_counter() - started
        await client.close()
    return seconds


def _process(base_url: str, folder: Path, name: str) -> float:
    """Seconds that the run itself says it took, building the student included."""
    own = folder / "cache"
    own.mkdir(exist_ok=True)
    if not (own / "models").exists():
        (own / "models").symlink_to(cache_directory() / "models")
    flags = {
        "env.run_dir": folder / name,
        "env.total_steps": GROUPS,
        "env.group_size": GROUP_SIZE,
        "env.eval_prompts": HELD_OUT,
        "env.steps_per_eval": GROUPS,
        "openai.base_url": base_url,
        "openai.model_name": "slow",
        "openai.num_max_requests_at_once": AT_ONCE,
    }
    command = [sys.executable, str(ROOT / "atropos.py"), "process"]
    command += [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
    variables = {**os.environ, "QUANTUM_HYBRID_CACHE": str(own), "WANDB_MODE": "offline"}
    subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True)
    summary = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
    return summary["seconds"]


if __name__ == "__main__":
    main()
